"""Corporate actions: terms, the reference price, identity, and merging what several providers declare."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.actions import (
    EVENTS,
    SIMPLE_RATIOS,
    conform,
    merge_events,
    plain_decimal,
    projections,
    reference_price,
    sha256,
    spin_off_suspects,
)

D = date(2024, 5, 3)


def events(*rows: dict[str, Any]) -> pl.DataFrame:
    """Events from what matters; the rest is X, on D, of type cash."""
    filled = [{"symbol": "X", "ex_date": D, "event_type": "cash", **row} for row in rows]
    return pl.DataFrame(filled, schema_overrides={n: t for n, t in EVENTS.items() if any(n in r for r in filled)})


# --- terms and reference price ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("close", "cash", "shares", "rights", "expected"),
    [
        (110.0, 1.0, 1.2, [], 109 / 1.2),  # FPT 2022-06-13
        (128.3, 2.0, 1.2, [], 126.3 / 1.2),  # VNM 2020-09-29
        (32.4, 0.0, 1.0, [(0.2, 20.0)], 36.4 / 1.2),  # HPG 2017-06-16
        (60.4, 0.0, 1 + 1 / 3, [(1 / 6, 10.0)], (60.4 + 10 / 6) / 1.5),  # SSI 2021-09-08
        (33.6, 1.0, 1.2, [(0.1, 15.0)], 34.1 / 1.3),  # SSI 2024-09-23
        (48.3, 0.0, 2.0, [], 24.15),  # TCB 2024-06-20
        (10.0, 0.2, 1.3, [(0.2, 5.0)], 7.2),  # 10送3 派2 配2 @5
    ],
)
def test_the_reference_price_is_the_one_the_exchange_published(
    close: float, cash: float, shares: float, rights: list[tuple[float, float]], expected: float
) -> None:
    ratio, value = sum(r for r, _ in rights), sum(r * s for r, s in rights)
    got = pl.select(reference_price(pl.lit(close), pl.lit(cash), pl.lit(shares), pl.lit(ratio), pl.lit(value))).item()
    assert got == pytest.approx(expected, rel=1e-12)


def test_an_event_needs_only_who_when_and_what() -> None:
    full = conform(pl.DataFrame({"symbol": ["X"], "ex_date": [D], "event_type": ["dividend"], "cash": [1]}))
    assert full.row(0, named=True) == {
        "symbol": "X",
        "ex_date": D,
        "event_type": "cash",
        "cash": 1.0,
        "split_ratio": 1.0,
        "bonus_ratio": 0.0,
        "rights_ratio": 0.0,
        "rights_price": 0.0,
        "currency": None,
        "provider": None,
        "inferred": False,
    }


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ({"event_type": "merger"}, "no known type"),
        ({"cash": float("nan")}, "not finite"),
        ({"cash": float("inf")}, "not finite"),
        ({"split_ratio": 0.0}, "split ratio"),
        ({"split_ratio": -2.0}, "split ratio"),
        ({"bonus_ratio": -0.1}, "negative ratio"),
        ({"rights_ratio": 0.1, "rights_price": -1.0}, "subscription price"),
        ({"ex_date": None}, "no symbol, date or type"),
    ],
)
def test_impossible_events_are_refused_and_named(row: dict[str, Any], says: str) -> None:
    with pytest.raises(ContractViolation, match=says) as caught:
        conform(events({}, row))
    assert caught.value.context["symbol"] == "X"
    assert caught.value.hint


def test_events_without_a_key_column_are_refused() -> None:
    with pytest.raises(ContractViolation, match="event_type"):
        conform(pl.DataFrame({"symbol": ["X"], "ex_date": [D]}))


def test_a_split_in_an_odd_ratio_is_suspected_to_be_a_spin_off() -> None:
    usual = [2.0, 1.5, 7.0, 0.1, 1.25, 50.0, 1 / 3, 1 / 30, 15.0, 1.1, 1.05, 1.15, 1.3333333]
    odd = [1.046, 1.281, 0.955, 1.032, 0.487329, 1.0046]
    declared = events(*({"event_type": "split", "split_ratio": ratio} for ratio in usual + odd))
    assert spin_off_suspects(declared)["split_ratio"].to_list() == odd
    assert spin_off_suspects(events({"event_type": "spin_off", "split_ratio": 1.046})).is_empty()
    half_read = pl.DataFrame({"event_type": ["split", None, "split"], "split_ratio": [None, 1.046, float("nan")]})
    assert spin_off_suspects(half_read).is_empty()
    assert all(value == new / old for value, (new, old) in SIMPLE_RATIOS.items())


def test_spin_offs_of_the_sp500_are_suspected_and_its_splits_are_not(shared_data: Path) -> None:
    yahoo = pl.scan_parquet(shared_data / "us_yahoo_sp500_asof_2026_03.parquet").filter(pl.col("Stock Splits") > 0)
    splits = yahoo.select("symbol", ex_date="date", event_type=pl.lit("split"), split_ratio="Stock Splits").collect()
    suspects = spin_off_suspects(splits).select(
        pl.concat_str("symbol", pl.col("ex_date").cast(pl.String), separator=" ")
    )
    named = set(suspects.to_series())
    assert {"IBM 2021-11-04", "GE 2023-01-04", "MRK 2021-06-03", "ZBH 2022-03-01", "RTX 2020-04-03"} <= named
    assert not named & {"AAPL 2020-08-31", "NVDA 2024-06-10", "CMG 2024-06-26", "GE 2021-08-02", "BF-B 2018-03-01"}


# --- identity ---------------------------------------------------------------------------------------------------------


def case_events(rows: list[dict[str, str]]) -> pl.DataFrame:
    """Events as the shared cases spell them."""
    names = {"effective_date": "ex_date", "dividend_cash": "cash"}
    numbers = ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price")
    renamed = [{names.get(k, k): v for k, v in row.items()} for row in rows]
    plain = [{k: float(v) if k in numbers else v for k, v in row.items()} for row in renamed]
    frame = events(*({**row, "ex_date": date.fromisoformat(str(row["ex_date"]))} for row in plain))
    return frame if rows else pl.DataFrame(schema={"symbol": pl.String, "ex_date": pl.Date, "event_type": pl.String})


def test_projection_and_hash_are_those_of_every_case(shared_cases: Path) -> None:
    for case in json.loads((shared_cases / "adjustment.json").read_text())["cases"]:
        text = projections(case_events(case["inputs"]["events"])).get("X", "[]")
        assert text == case["expected"]["events_projection"], case["id"]
        assert sha256(text) == case["expected"]["source_events_hash"], case["id"]


def test_identity_ignores_order_provider_and_the_way_a_number_is_written() -> None:
    one = events(
        {"cash": 1.0, "currency": "VND", "provider": "a"}, {"event_type": "bonus", "bonus_ratio": 0.2, "provider": "a"}
    )
    other = events(
        {"event_type": "bonus", "bonus_ratio": 2 / 10, "provider": "b"},
        {"event_type": "dividend", "cash": 1.000, "currency": "VND", "provider": "b"},
    )
    assert projections(one) == projections(other)
    assert projections(one) != projections(one.with_columns(cash=pl.col("cash") + 0.01))
    assert projections(one) != projections(one.with_columns(currency=pl.lit("USD")))


@given(st.integers(1, 5_000), st.integers(1, 5_000))
def test_a_ratio_is_written_as_the_fraction_it_was_declared_as(new: int, old: int) -> None:
    text = plain_decimal(new / old)
    assert not set(text) - set("0123456789.")
    assert not ("." in text and text.endswith("0"))
    assert abs(Fraction(text) / Fraction(new, old) - 1) < Fraction(1, 10**31)


@given(st.floats(1e-9, 1e12))
def test_a_plain_decimal_reads_back_as_the_same_number(value: float) -> None:
    assert float(plain_decimal(value)) == value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.0, "0"),
        (-0.0, "0"),
        (10.0, "10"),
        (1000.0, "1000"),
        (1e-7, "0.0000001"),
        (1.046, "1.046"),
        (1 / 3, "0." + "3" * 32),
        (1 / 6, "0.1" + "6" * 30 + "7"),
        (0.1 + 0.2, "0.30000000000000004"),
    ],
)
def test_plain_decimals(value: float, text: str) -> None:
    assert plain_decimal(value) == text


# --- merging ----------------------------------------------------------------------------------------------------------


def test_the_most_trusted_provider_wins_and_agreement_is_counted() -> None:
    merged = merge_events(
        events(
            {"cash": 0.82, "provider": "yahoo"},
            {"cash": 0.82, "provider": "alpha_vantage"},
            {"cash": 0.8200001, "provider": "files"},
        ),
        ["alpha_vantage", "yahoo"],
    )
    assert merged.select("provider", "cash", "n_sources", "conflict").rows() == [("alpha_vantage", 0.82, 3, False)]


def test_a_disagreement_in_size_is_flagged_and_the_best_rank_stands() -> None:
    merged = merge_events(
        events(
            {"cash": 0.205, "provider": "b"}, {"cash": 0.82, "provider": "a"}, {"cash": 0.82, "provider": "unranked"}
        ),
        ["a", "b"],
    )
    assert merged.select("provider", "cash", "n_sources", "conflict").rows() == [("a", 0.82, 2, True)]


def test_two_dividends_of_one_provider_on_one_day_both_stand() -> None:
    merged = merge_events(
        events({"cash": 1.0, "provider": "a"}, {"cash": 2.0, "provider": "a"}, {"cash": 3.0, "provider": "b"}),
        ["a", "b"],
    )
    assert merged.select("cash", "n_sources", "conflict").rows() == [(1.0, 2, False), (2.0, 2, False)]


def test_the_same_row_said_twice_by_one_provider_is_one_event() -> None:
    assert merge_events(events({"cash": 1.0, "provider": "a"}, {"cash": 1.0, "provider": "a"}), ["a"]).height == 1


@pytest.mark.parametrize(
    ("one", "other", "paid"),
    [
        ("1st of 2017 (500 d)", "2nd of 2017 (500d)", 2),
        ("final of 2016 (500 d)", "advance on 2017, 500 d", 2),
        ("of 2016 (500 d)", "of 2016 (500d/share)", 1),
        ("of 2016", "of 2015 and 2016", 1),
        ("of 2016, 500", None, 1),
        ("rights 5:1", "rights 100:20", 1),
        ("a", "b", 1),
    ],
)
def test_equal_amounts_are_two_events_only_if_the_words_name_two(one: str, other: str | None, paid: int) -> None:
    said = events(*({"cash": 500.0, "provider": "a"} for _ in range(2))).with_columns(
        detail=pl.Series([one, other], dtype=pl.String)
    )
    for rows in (said, said.reverse()):
        merged = merge_events(rows, ["a"])
        assert merged["cash"].to_list() == [500.0] * paid
        assert merged.equals(merge_events(said, ["a"]))


def test_a_decision_wins_over_every_rank_and_settles_a_conflict() -> None:
    merged = merge_events(
        events({"cash": 5.0, "provider": "a"}, {"cash": 6.0, "provider": "b"}, {"cash": 0.5, "provider": "detective"}),
        ["a", "b"],
    )
    assert merged.select("provider", "cash", "n_sources", "conflict").rows() == [("detective", 0.5, 1, False)]


def test_a_bonus_here_and_a_split_there_are_the_same_event() -> None:
    merged = merge_events(
        events(
            {"event_type": "split", "split_ratio": 1.2, "provider": "yahoo"},
            {"event_type": "bonus", "bonus_ratio": 0.2, "provider": "kbs"},
        ),
        ["kbs", "yahoo"],
    )
    assert merged.select("event_type", "n_sources", "conflict").rows() == [("bonus", 2, False)]


def test_a_spin_off_reported_as_a_split_elsewhere_is_not_applied_twice() -> None:
    merged = merge_events(
        events(
            {"event_type": "split", "split_ratio": 1.046, "provider": "yahoo"},
            {"event_type": "spin_off", "split_ratio": 1.046, "provider": "files"},
        ),
        ["files", "yahoo"],
    )
    assert merged["event_type"].to_list() == ["spin_off"]


def test_kinds_come_from_whoever_declares_them() -> None:
    merged = merge_events(
        events(
            {"cash": 1.0, "provider": "a"},
            {"event_type": "bonus", "bonus_ratio": 0.2, "provider": "b"},
            {"event_type": "rights", "rights_ratio": 0.1, "rights_price": 15.0, "provider": "b"},
        ),
        ["a", "b"],
    )
    assert sorted(merged["event_type"]) == ["bonus", "cash", "rights"]
    assert merged["n_sources"].to_list() == [1, 1, 1]


def test_rights_at_another_subscription_price_are_a_conflict() -> None:
    merged = merge_events(
        events(
            {"event_type": "rights", "rights_ratio": 0.1, "rights_price": 15.0, "provider": "a"},
            {"event_type": "rights", "rights_ratio": 0.1, "rights_price": 10.0, "provider": "b"},
        ),
        ["a", "b"],
    )
    assert merged.select("rights_price", "conflict").rows() == [(15.0, True)]


def test_inferred_events_fill_holes_only() -> None:
    declared = {"cash": 0.5, "provider": "b", "inferred": False}
    deduced = {"cash": 0.5001, "provider": "a", "inferred": True}
    elsewhere = {**deduced, "ex_date": D + timedelta(days=90)}
    merged = merge_events(events(deduced, declared, elsewhere), ["a", "b"])
    assert merged.select("cash", "inferred", "n_sources", "conflict").rows() == [
        (0.5, False, 1, False),
        (0.5001, True, 1, False),
    ]


def test_other_columns_survive_and_no_events_merge_to_none() -> None:
    merged = merge_events(events({"cash": 1.0, "provider": None}).with_columns(fetch_id=pl.lit("f")), [])
    assert merged.select("fetch_id", "provider").rows() == [("f", None)]
    empty = merge_events(events({}).clear(), ["a"])
    assert empty.is_empty()
    assert empty.columns == [*EVENTS, "n_sources", "conflict"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from("XY"), st.integers(0, 2), st.sampled_from(["a", "b", "c"]), st.integers(1, 3)),
        max_size=12,
    ),
    st.randoms(use_true_random=False),
)
def test_merging_does_not_depend_on_the_order_of_rows(
    rows: list[tuple[str, int, str, int]], shuffler: random.Random
) -> None:
    made = [
        {"symbol": s, "ex_date": D + timedelta(days=n), "provider": p, "cash": float(c), "inferred": p == "c"}
        for s, n, p, c in rows
    ]
    shuffled = shuffler.sample(made, len(made))
    one, other = (merge_events(events(*m) if m else events({}).clear(), ["b", "a"]) for m in (made, shuffled))
    assert one.equals(other)
    assert (
        one.select("symbol", "ex_date", "provider").unique().height == one.select("symbol", "ex_date").unique().height
    )
