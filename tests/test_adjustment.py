"""Factor steps, their versions, and adjusted bars: the rules, the laws, and what real providers published."""

from __future__ import annotations

import json
import random
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_actions import case_events, events
from vprism_pipelines.errors import ContractViolation, InvalidInput
from vprism_pipelines.market.actions import EVENTS, merge_events
from vprism_pipelines.market.adjustment import SETS, STATUSES, STEPS, FactorResult, adjusted, factor_sets

MONDAY = date(2024, 4, 29)
EMPTY_SET = "1:4f53cda18c2b"


def day(n: int) -> date:
    """The n-th day of the little histories below."""
    return MONDAY + timedelta(days=n)


def bars(*closes: float | None, symbol: str = "X", start: int = 0, **columns: list[Any]) -> pl.DataFrame:
    """Daily raw closes; a None is a day without a bar."""
    frame = pl.DataFrame(
        {"symbol": symbol, "session": [day(start + n) for n in range(len(closes))], "close": list(closes), **columns},
        schema_overrides={"close": pl.Float64},
    )
    return frame.drop_nulls("close")


def only(result: FactorResult) -> dict[str, Any]:
    """The one step of a result."""
    assert result.steps.height == 1
    return result.steps.row(0, named=True)


def flagged(result: FactorResult) -> bool:
    return bool(result.sets["action_gap_flag"].item())


# --- the cases -----------------------------------------------------------------------------------------------------


def test_every_shared_case(shared_cases: Path) -> None:
    for case in json.loads((shared_cases / "adjustment.json").read_text())["cases"]:
        inputs, expected = case["inputs"], case["expected"]
        raw = pl.DataFrame(
            [("X", date.fromisoformat(d), float(c), 1_000_000) for d, c in inputs["closes"]],
            schema=["symbol", "session", "close", "volume"],
            orient="row",
        )
        currency = next((e["currency"] for e in inputs["events"] if "currency" in e), "VND")
        result = factor_sets(case_events(inputs["events"]), raw, currency)
        assert result.sets["version"].item() == expected["version"], case["id"]
        assert flagged(result) is expected["action_gap_flag"], case["id"]
        for mode in ("hfq", "qfq"):
            got = adjusted(raw, result.steps, mode)  # type: ignore[arg-type]
            for row, answer in zip(got.iter_rows(named=True), expected["rows"], strict=True):
                where = (case["id"], mode, answer["date"])
                assert row["factor"] == pytest.approx(float(answer[f"adj_factor_{mode}"]), abs=6e-11), where
                assert row["close"] == pytest.approx(float(answer[f"close_{mode}"]), abs=6e-7), where
                if mode == "qfq":
                    share = float(answer["volume_factor_qfq"])
                    assert row["volume"] == pytest.approx(1_000_000 * share, rel=1e-9), where
        if "reference_price" in case:
            assert only(result)["ref_price"] == pytest.approx(float(case["reference_price"]), abs=6e-7)


def test_both_dividend_families_give_the_factors_their_providers_published(shared_cases: Path) -> None:
    for fact in json.loads((shared_cases / "adjustment.json").read_text())["reference_facts"]["formula_families"]:
        closes = (float(fact["prev_close"]), float(fact["ex_close"] or fact["prev_close"]))
        step = only(factor_sets(events({"ex_date": day(1), "cash": float(fact["dividend"])}), bars(*closes), "USD"))
        assert 1 / step["m"] == pytest.approx(float(fact["factor_A_1_minus_D_over_Pprev"]), abs=6e-9)
        published = 1 / (step["m_ex_close"] if fact["provider_family"].startswith("B") else step["m"])
        assert published == pytest.approx(float(fact["provider_observed"]), abs=6e-7)
        if fact["ex_close"]:
            assert 1 / step["m_ex_close"] == pytest.approx(float(fact["factor_B_C_over_C_plus_D"]), abs=6e-9)


# --- one unit per ex-date ------------------------------------------------------------------------------------------


def test_same_day_dividends_add_and_do_not_compound() -> None:
    step = only(
        factor_sets(events({"ex_date": day(1), "cash": 1}, {"ex_date": day(1), "cash": 2}), bars(50, 47), "VND")
    )
    assert 1 / step["m"] == pytest.approx(0.94, rel=1e-12)
    assert step["cash"] == 3


def test_splits_multiply_and_a_dividend_is_per_share_held_before() -> None:
    unit = events(
        {"ex_date": day(1), "event_type": "split", "split_ratio": 2.0},
        {"ex_date": day(1), "event_type": "split", "split_ratio": 1.5},
        {"ex_date": day(1), "cash": 10.0},
    )
    step = only(factor_sets(unit, bars(100, 30), "USD"))
    assert (step["ref_price"], step["v"]) == (30.0, 3.0)
    assert step["m"] == pytest.approx(100 / 30, rel=1e-12)
    assert step["m_ex_close"] == pytest.approx(3 + 10 / 30, rel=1e-12)


def test_each_rights_issue_keeps_its_own_price_and_worthless_ones_are_ignored() -> None:
    issues = events(
        {"ex_date": day(1), "event_type": "rights", "rights_ratio": 0.2, "rights_price": 5.0},
        {"ex_date": day(1), "event_type": "rights", "rights_ratio": 0.1, "rights_price": 8.0},
        {"ex_date": day(1), "event_type": "rights", "rights_ratio": 0.5, "rights_price": 10.0},
    )
    step = only(factor_sets(issues, bars(10, 9), "VND"))
    assert step["ref_price"] == pytest.approx((10 + 1.0 + 0.8) / 1.3, rel=1e-12)
    assert (step["rights_ratio"], step["v"]) == (pytest.approx(0.3), 1.0)


def test_a_spin_off_moves_the_price_and_not_the_share_count() -> None:
    step = only(
        factor_sets(events({"ex_date": day(1), "event_type": "spin_off", "split_ratio": 1.046}), bars(50, 48), "USD")
    )
    assert (step["m"], step["v"]) == (pytest.approx(1.046), 1.0)


# --- what cannot be applied is kept and says why -------------------------------------------------------------------


def test_an_ex_date_without_a_bar_takes_effect_on_the_next_one_and_is_flagged() -> None:
    result = factor_sets(events({"ex_date": day(2), "cash": 1.0}), bars(9, 10, None, None, 8.8), "CNY")
    step = only(result)
    assert (step["status"], step["effective_session"], step["prev_close"], step["gap"]) == (
        "applied",
        day(4),
        10.0,
        True,
    )
    assert flagged(result)
    assert adjusted(bars(9, 10, None, None, 8.8), result.steps, "qfq")["factor"].to_list() == pytest.approx(
        [0.9, 0.9, 1.0]
    )


def test_the_last_traded_close_counts_not_the_last_bar() -> None:
    raw = bars(10, 11, 11, 10, traded=[True, False, False, True])
    step = only(factor_sets(events({"ex_date": day(3), "cash": 1.0}), raw, "CNY"))
    assert (step["prev_close"], step["m"], step["gap"]) == (10.0, pytest.approx(10 / 9), False)


def test_two_ex_dates_between_two_trades_chain_through_the_reference_price() -> None:
    raw = bars(16, 15.5, 15.5, 14.5, 14, traded=[True, False, False, False, True])
    result = factor_sets(events({"ex_date": day(1), "cash": 0.5}, {"ex_date": day(3), "cash": 1.0}), raw, "VND")
    assert result.steps["prev_close"].to_list() == [16.0, 15.5]
    assert result.steps["ref_price"].to_list() == [15.5, 14.5]
    assert result.steps["m"].product() == pytest.approx(16 / 14.5, rel=1e-12)


def test_of_two_ex_dates_in_one_gap_only_the_last_is_valued_at_the_close_after_it() -> None:
    pair = events({"ex_date": day(1), "cash": 1.0}, {"ex_date": day(2), "event_type": "split", "split_ratio": 2.0})
    steps = factor_sets(pair, bars(11, None, None, 6), "CNY").steps
    assert steps["m"].to_list() == steps["m_ex_close"].to_list() == pytest.approx([1.1, 2.0])


def test_an_event_after_the_last_bar_is_pending_and_no_gap() -> None:
    result = factor_sets(events({"ex_date": day(5), "cash": 1.0}), bars(10, 11), "CNY")
    step = only(result)
    assert (step["status"], step["effective_session"], step["m"], step["gap"]) == ("pending", None, None, False)
    assert not flagged(result)
    assert result.sets["version"].item() != EMPTY_SET
    assert adjusted(bars(10, 11), result.steps, "qfq")["close"].to_list() == [10.0, 11.0]


def test_an_event_on_the_first_bar_has_no_factor_and_is_flagged() -> None:
    result = factor_sets(events({"ex_date": day(0), "cash": 1.0}), bars(10, 11), "CNY")
    assert (only(result)["status"], only(result)["m"], flagged(result)) == ("no_prior_bar", None, True)


def test_an_event_before_the_first_bar_leaves_no_gap() -> None:
    result = factor_sets(events({"ex_date": day(-30), "cash": 1.0}), bars(10, 11), "CNY")
    assert (only(result)["status"], flagged(result)) == ("no_prior_bar", False)


@pytest.mark.parametrize("cash", [10.0, 12.5])
def test_cash_of_the_whole_price_or_more_is_rejected_and_flagged(cash: float) -> None:
    result = factor_sets(events({"ex_date": day(1), "cash": cash}), bars(10, 9), "CNY")
    step = only(result)
    assert (step["status"], step["m"], step["m_ex_close"], step["v"]) == ("cash_exceeds_price", None, None, None)
    assert (step["prev_close"], step["cash"], flagged(result)) == (10.0, cash, True)
    assert adjusted(bars(10, 9), result.steps, "hfq")["factor"].to_list() == [1.0, 1.0]


def test_money_in_another_currency_is_not_applied_and_a_split_has_no_currency() -> None:
    foreign = {"ex_date": day(1), "currency": "USD"}
    result = factor_sets(events({**foreign, "cash": 1.0}), bars(10, 9), "VND")
    assert (only(result)["status"], only(result)["m"], flagged(result)) == ("currency_conflict", None, True)
    split = events({**foreign, "event_type": "split", "split_ratio": 2.0})
    assert only(factor_sets(split, bars(10, 5), "VND"))["status"] == "applied"


def test_an_event_declared_without_amounts_is_kept() -> None:
    result = factor_sets(events({"ex_date": day(1), "event_type": "spin_off"}), bars(10, 9), "USD")
    assert (only(result)["status"], only(result)["m"], flagged(result)) == ("no_terms", None, True)
    beside = factor_sets(
        events({"ex_date": day(1), "event_type": "spin_off"}, {"ex_date": day(1), "cash": 1}), bars(10, 9), ""
    )
    assert (only(beside)["status"], only(beside)["m"], flagged(beside)) == ("applied", pytest.approx(10 / 9), True)


def test_without_a_trade_on_the_ex_session_both_conventions_agree() -> None:
    raw = bars(10, 9.7, 9.5, traded=[True, False, True])
    step = only(factor_sets(events({"ex_date": day(1), "cash": 1.0}), raw, "VND"))
    assert step["m_ex_close"] == step["m"]


def test_symbols_without_events_or_without_bars_have_a_set() -> None:
    result = factor_sets(events({"symbol": "B", "ex_date": day(1), "cash": 1.0}), bars(10, 11, symbol="A"), "CNY")
    assert result.sets["symbol"].to_list() == ["A", "B"]
    assert result.sets.row(0, named=True) | {"algorithm": ""} == {
        "symbol": "A",
        "version": EMPTY_SET,
        "events_hash": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
        "price_basis_hash": "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945",
        "algorithm": "",
        "n_events": 0,
        "action_gap_flag": False,
    }
    assert result.steps["status"].to_list() == ["pending"]
    assert result.steps.schema == STEPS
    assert result.sets.schema == SETS


def test_a_corrected_previous_close_changes_the_price_basis_and_not_the_version() -> None:
    dividend = events({"ex_date": day(2), "cash": 1.0})
    one, other, unrelated = (factor_sets(dividend, bars(*c), "CNY").sets for c in ([9, 10, 9], [9, 11, 9], [8, 10, 9]))
    assert one["version"].item() == other["version"].item()
    assert one["price_basis_hash"].item() != other["price_basis_hash"].item()
    assert one.equals(unrelated)


def test_bars_that_are_there_twice_or_lack_a_column_are_refused() -> None:
    dividend = events({"ex_date": day(1), "cash": 1.0})
    with pytest.raises(ContractViolation, match="twice"):
        factor_sets(dividend, pl.concat([bars(10, 9), bars(10)]), "CNY")
    with pytest.raises(ContractViolation, match="close"):
        factor_sets(dividend, bars(10, 9).drop("close"), "CNY")
    with pytest.raises(ContractViolation, match="lack"):
        adjusted(bars(10, 9), pl.DataFrame({"symbol": ["X"]}), "qfq")


# --- adjusted bars -------------------------------------------------------------------------------------------------


def test_volume_follows_shares_only_and_value_is_money() -> None:
    raw = bars(110, 86.2, volume=[1_000_000, 500], value=[1.1e8, 43_100.0], note=["a", "b"])
    unit = events({"ex_date": day(1), "cash": 1.0}, {"ex_date": day(1), "event_type": "bonus", "bonus_ratio": 0.2})
    steps = factor_sets(unit, raw, "VND").steps
    qfq = adjusted(raw, steps, "qfq")
    assert qfq["volume"].to_list() == [1_200_000.0, 500.0]
    assert qfq["value"].to_list() == raw["value"].to_list()
    assert qfq["note"].to_list() == ["a", "b"]
    assert adjusted(raw, steps, "hfq")["volume"].to_list() == pytest.approx([1_000_000, 500 / 1.2])
    assert adjusted(raw, steps, "split")["close"].to_list() == pytest.approx([110 / 1.2, 86.2])
    assert adjusted(raw, steps, "none")["volume"].to_list() == [1_000_000, 500]


def test_every_price_of_a_bar_is_adjusted() -> None:
    raw = bars(100, 50, open=[98.0, 51.0], high=[101.0, 52.0], low=[97.0, 49.0])
    steps = factor_sets(events({"ex_date": day(1), "event_type": "split", "split_ratio": 2.0}), raw, "USD").steps
    assert adjusted(raw, steps, "qfq").select("open", "high", "low", "close").row(0) == (49.0, 50.5, 48.5, 50.0)


def test_a_slice_of_adjusted_bars_is_the_adjusted_slice() -> None:
    raw = bars(100, 98, 49, 48, 24)
    steps = factor_sets(
        events({"ex_date": day(1), "cash": 2.0}, {"ex_date": day(4), "event_type": "split", "split_ratio": 2.0}),
        raw,
        "",
    ).steps
    whole = adjusted(raw, steps, "qfq")
    assert adjusted(raw.slice(0, 2), steps, "qfq").equals(whole.slice(0, 2))


def test_additive_adjustment_subtracts_and_keeps_price_differences() -> None:
    raw = bars(10.0, 9.5, 9.0, 8.8)
    steps = factor_sets(events({"ex_date": day(2), "cash": 1.0}), raw, "CNY").steps
    qfq = adjusted(raw, steps, "qfq", method="additive")
    assert qfq["close"].to_list() == pytest.approx([9.0, 8.5, 9.0, 8.8])
    assert qfq["offset"].to_list() == [-1.0, -1.0, 0.0, 0.0]
    assert adjusted(raw, steps, "hfq", method="additive")["close"].to_list() == pytest.approx([10.0, 9.5, 10.0, 9.8])


def test_additive_adjustment_is_the_affine_map_chinese_sources_publish() -> None:
    unit = events({"ex_date": day(1), "cash": 0.2}, {"ex_date": day(1), "event_type": "bonus", "bonus_ratio": 0.5})
    later = events({"ex_date": day(2), "cash": 0.3})
    raw = bars(9.49, 6.1, 5.9)
    steps = factor_sets(pl.concat([unit, later], how="diagonal_relaxed"), raw, "CNY").steps
    assert adjusted(raw, steps, "qfq", method="additive")["close"].to_list() == pytest.approx(
        [(9.49 - 0.2) / 1.5 - 0.3, 6.1 - 0.3, 5.9]
    )
    assert adjusted(raw, steps, "hfq", method="additive")["close"].to_list() == pytest.approx(
        [9.49, 6.1 * 1.5 + 0.2, (5.9 + 0.3) * 1.5 + 0.2]
    )


@pytest.mark.parametrize(
    ("mode", "convention", "method"),
    [
        ("forward", None, "ratio"),
        ("qfq", "next_open", "ratio"),
        ("qfq", None, "log"),
        ("total_return", None, "additive"),
        ("none", None, "additive"),
    ],
)
def test_meaningless_requests_are_refused(mode: Any, convention: Any, method: Any) -> None:
    steps = factor_sets(events({"ex_date": day(1)}), bars(10, 9), "").steps
    with pytest.raises(InvalidInput):
        adjusted(bars(10, 9), steps, mode, convention, method)


def test_adjusted_bars_are_not_adjusted_again() -> None:
    steps = factor_sets(events({"ex_date": day(1), "cash": 1.0}), bars(10, 9), "").steps
    with pytest.raises(InvalidInput, match="already"):
        adjusted(adjusted(bars(10, 9), steps, "qfq"), steps, "qfq")


# --- laws ----------------------------------------------------------------------------------------------------------

term = st.one_of(
    st.builds(lambda x: {"event_type": "cash", "cash": x}, st.floats(0.01, 9.0)),
    st.builds(lambda x: {"event_type": "split", "split_ratio": x}, st.sampled_from([2.0, 1.5, 0.1, 7.0, 0.5])),
    st.builds(lambda x: {"event_type": "bonus", "bonus_ratio": x}, st.floats(0.01, 2.0)),
    st.builds(lambda x: {"event_type": "spin_off", "split_ratio": x}, st.floats(1.01, 1.5)),
    st.builds(
        lambda r, s: {"event_type": "rights", "rights_ratio": r, "rights_price": s},
        st.floats(0.01, 1.0),
        st.floats(0.1, 15.0),
    ),
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[pl.DataFrame, list[dict[str, Any]]]:
    """Bars of two symbols with holes and days without trades, and events before, among and after them."""
    frames = []
    for symbol in ("X", "Y"):
        closes = draw(st.lists(st.floats(5.0, 20.0) | st.none(), min_size=2, max_size=12))
        traded = draw(st.lists(st.booleans(), min_size=len(closes), max_size=len(closes)))
        frames.append(bars(*closes, symbol=symbol, traded=traded, volume=[1000.0] * len(closes)))
    rows = draw(
        st.lists(st.tuples(st.sampled_from("XY"), st.integers(-1, 13), term), min_size=1, max_size=8).map(
            lambda drawn: [{"symbol": s, "ex_date": day(n), **t} for s, n, t in drawn]
        )
    )
    return pl.concat(frames), rows


@settings(max_examples=40, deadline=None)
@given(histories(), st.randoms(use_true_random=False))
def test_the_order_of_events_and_bars_is_irrelevant_to_the_last_bit(
    history: tuple[pl.DataFrame, list[dict[str, Any]]], shuffler: random.Random
) -> None:
    raw, rows = history
    one = factor_sets(events(*rows), raw, "VND")
    other = factor_sets(events(*shuffler.sample(rows, len(rows))), raw.sample(fraction=1, shuffle=True, seed=7), "VND")
    assert one.steps.equals(other.steps)
    assert one.sets.equals(other.sets)
    assert adjusted(raw, one.steps, "qfq").equals(adjusted(raw.reverse(), other.steps, "qfq"))


@settings(max_examples=40, deadline=None)
@given(histories())
def test_a_step_is_in_force_exactly_when_it_has_multipliers(history: tuple[pl.DataFrame, list[dict[str, Any]]]) -> None:
    raw, rows = history
    steps = factor_sets(events(*rows), raw, "VND").steps
    assert steps.select("symbol", "ex_date").rows() == sorted({(r["symbol"], r["ex_date"]) for r in rows})
    assert steps["status"].is_in(STATUSES).all()
    applied = pl.col("status") == "applied"
    for name in ("m", "m_ex_close", "v", "ref_price"):
        assert steps.filter(applied)[name].is_not_null().all()
        assert (steps.filter(applied)[name] > 0).all()
        assert steps.filter(~applied)[name].is_null().all()


@settings(max_examples=40, deadline=None)
@given(histories())
def test_factors_are_the_plain_product_and_the_latest_price_stays(
    history: tuple[pl.DataFrame, list[dict[str, Any]]],
) -> None:
    raw, rows = history
    steps = factor_sets(events(*rows), raw, "VND").steps
    applied = steps.filter(pl.col("status") == "applied").select("symbol", "effective_session", "m", "v").rows()
    qfq, hfq = adjusted(raw, steps, "qfq"), adjusted(raw, steps, "hfq")
    for forward, backward in zip(qfq.iter_rows(named=True), hfq.iter_rows(named=True), strict=True):
        product = later = shares = 1.0
        for symbol, session, m, v in applied:
            if symbol == forward["symbol"]:
                product *= m if session <= forward["session"] else 1.0
                later *= m if session > forward["session"] else 1.0
                shares *= v if session > forward["session"] else 1.0
        assert backward["factor"] == pytest.approx(product, rel=1e-12)
        assert forward["factor"] == pytest.approx(1 / later, rel=1e-12)
        assert forward["share_factor"] == pytest.approx(shares, rel=1e-12)
    last = qfq.group_by("symbol").last()
    assert (last["factor"] == 1).all()


@settings(max_examples=40, deadline=None)
@given(histories(), term)
def test_hfq_history_is_append_only(history: tuple[pl.DataFrame, list[dict[str, Any]]], news: dict[str, Any]) -> None:
    raw, rows = history
    before = adjusted(raw, factor_sets(events(*rows), raw, "VND").steps, "hfq")
    grown = pl.concat([raw, bars(10.0, 9.0, start=20, traded=[True, True], volume=[1.0, 1.0])])
    later = factor_sets(events(*rows, {"symbol": "X", "ex_date": day(21), **news}), grown, "VND")
    after = adjusted(grown, later.steps, "hfq").filter(pl.col("session") <= before["session"].max())
    assert after.equals(before)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.floats(5.0, 20.0), min_size=3, max_size=10),
    st.dictionaries(
        st.integers(1, 9), st.tuples(st.floats(0.0, 4.0), st.sampled_from([1.0, 2.0, 0.5, 1.5])), max_size=5
    ),
)
def test_total_return_is_what_a_reinvesting_holder_earned(
    closes: list[float], terms: dict[int, tuple[float, float]]
) -> None:
    raw = bars(*closes)
    shares, wealth, rows = 1.0, [], []
    for n, close in enumerate(closes):
        cash, ratio = terms.get(n, (0.0, 1.0)) if n else (0.0, 1.0)
        if n in terms and n:
            rows += [
                {"ex_date": day(n), "cash": cash},
                {"ex_date": day(n), "event_type": "split", "split_ratio": ratio},
            ]
        shares = shares * ratio + shares * cash / close
        wealth.append(shares * close)
    steps = factor_sets(events(*rows, {"ex_date": day(50), "cash": 0.1}), raw, "").steps
    total = adjusted(raw, steps, "total_return")["close"]
    assert (total / total[0]).to_list() == pytest.approx([w / wealth[0] for w in wealth], rel=1e-12)
    # A stock that closes where the exchange put it has returned nothing, whatever was paid out.
    qfq = adjusted(raw, steps, "qfq")["close"]
    references = dict(steps.drop_nulls("ref_price").select("ex_date", "ref_price").iter_rows())
    for n in range(1, len(closes)):
        if day(n) in references:
            assert qfq[n] / qfq[n - 1] == pytest.approx(closes[n] / references[day(n)], rel=1e-12)


# --- what providers published --------------------------------------------------------------------------------------


def worst(frame: pl.DataFrame, published: str, quantile: float = 1.0) -> float:
    error = (frame["close"] / frame[published].cast(pl.Float64) - 1).abs()
    return float(error.quantile(quantile, "nearest") or 0.0)


def test_nasdaq_wiki_is_reproduced_on_every_row_by_the_ex_close_convention(shared_data: Path) -> None:
    wiki = pl.read_parquet(shared_data / "us_quandl_wiki_aapl_msft.parquet").rename(
        {"date": "session", "Close": "close"}
    )
    raw = wiki.select("symbol", "session", "close", "Adj. Close", "Adj. Volume", volume=pl.col("Volume"))
    split = (
        wiki.filter(pl.col("Split Ratio") != 1)
        .select("symbol", ex_date="session", event_type=pl.lit("split"), split_ratio="Split Ratio", cash=0.0)
    )  # fmt: skip
    cash = wiki.filter(pl.col("Ex-Dividend") != 0).select(
        "symbol", ex_date="session", event_type=pl.lit("cash"), split_ratio=1.0, cash="Ex-Dividend"
    )
    result = factor_sets(pl.concat([split, cash]), raw, "USD")
    total = adjusted(raw, result.steps, "total_return")
    assert total.height == 17_476
    assert worst(total, "Adj. Close") < 1e-12
    assert (total["volume"] / total["Adj. Volume"] - 1).abs().max() < 1e-12  # type: ignore[operator]
    assert worst(adjusted(raw, result.steps, "qfq"), "Adj. Close") > 1e-4
    assert not result.sets["action_gap_flag"].any()


def test_yahoo_is_reproduced_for_every_symbol_by_the_previous_close_convention(shared_data: Path) -> None:
    yahoo = pl.read_parquet(shared_data / "us_yahoo_sp500_asof_2026_03.parquet").sort("symbol", "date")
    # Yahoo's prices and dividends are as of today's share count: undo the splits that came after.
    ratio = pl.when(pl.col("Stock Splits") > 0).then("Stock Splits").otherwise(1.0)
    from_here = ratio.cum_prod(reverse=True).over("symbol")
    yahoo = yahoo.with_columns(ratio.alias("ratio"), from_here.alias("since")).with_columns(
        close=pl.col("Close").cast(pl.Float64) * pl.col("since") / pl.col("ratio"),
        cash=pl.col("Dividends") * pl.col("since"),
        session="date",
    )
    split = yahoo.filter(pl.col("ratio") != 1).select(
        "symbol", ex_date="date", event_type=pl.lit("split"), split_ratio="ratio", cash=0.0
    )
    cash = yahoo.filter(pl.col("cash") > 0).select(
        "symbol", ex_date="date", event_type=pl.lit("cash"), split_ratio=1.0, cash="cash"
    )
    raw = yahoo.select("symbol", "session", "close", "Adj Close")
    steps = factor_sets(pl.concat([split, cash]), raw, "USD").steps
    assert set(steps["status"]) == {"applied", "no_prior_bar"}
    qfq = adjusted(raw, steps, "qfq").with_columns(
        error=(pl.col("close") / pl.col("Adj Close").cast(pl.Float64) - 1).abs()
    )
    by_symbol = qfq.group_by("symbol").agg(pl.col("error").quantile(0.99, "nearest"))
    assert by_symbol.height == 506
    assert by_symbol.filter(pl.col("error") > 1e-6)["symbol"].to_list() == []
    total = (
        adjusted(raw, steps, "total_return")
        .group_by("symbol")
        .agg(
            ((pl.col("close") / pl.col("Adj Close").cast(pl.Float64) - 1).abs())
            .quantile(0.99, "nearest")
            .alias("error")
        )
    )
    assert total.filter(pl.col("error") > 1e-6).height > 400  # the other convention is the wrong one here


def test_lean_factor_files_follow_from_their_events(shared_data: Path) -> None:
    files = pl.read_parquet(shared_data / "us_lean_factor_files.parquet").sort("symbol", "date")
    daily = pl.read_parquet(shared_data / "us_lean_daily_raw.parquet").select("symbol", session="date", close="close")
    following = {name: pl.col(name).shift(-1).over("symbol") for name in ("price_factor", "split_factor")}
    rows = (
        files.with_columns(
            price=pl.col("price_factor") / following["price_factor"],
            split=pl.col("split_factor") / following["split_factor"],
        )
        .filter(((pl.col("price") - 1).abs() > 5e-7) | (pl.col("split") != 1))
        .join(daily, left_on=["symbol", "date"], right_on=["symbol", "session"])
        # The same previous close: WM was two companies, BAC had another ticker.
        .filter((pl.col("reference_price") - pl.col("close")).abs() < 1e-9)
        .with_columns(
            ex_date=pl.col("date") + timedelta(days=1),
            cash=(pl.col("reference_price") * (1 - pl.col("price"))).round(4),
            ratio=pl.when(pl.col("split") < 0.9).then((1 / pl.col("split")).round(3)).otherwise(1 / pl.col("split")),
        )
    )
    declared = rows.select("symbol", "ex_date", "cash", event_type=pl.lit("cash"), split_ratio="ratio")
    steps = factor_sets(declared, daily, "USD").steps
    both = steps.join(rows.select("symbol", "ex_date", "price", "split"), on=["symbol", "ex_date"])
    # Dividends are rounded to 4 decimals here, the factors to 7 there.
    error = (both["m"] * both["price"] * both["split"] - 1).abs()
    assert both.height == rows.height == 614
    assert (both["status"] == "applied").all()
    assert (error < 1e-5).all()


def test_chinese_bonus_and_rights_open_within_the_limit_around_the_reference_price(shared_data: Path) -> None:
    declared = pl.read_parquet(shared_data / "cn_hikyuu_events_to_2011.parquet")
    daily = pl.read_parquet(shared_data / "cn_hikyuu_daily_raw_8.parquet").select(
        "symbol", "open", "close", session="date", traded=pl.col("volume") > 0
    )
    # Counts are per 10 shares in units of 1/10,000 share, cash per 10 shares in 1/1,000 yuan, prices in 1/1,000 yuan.
    at = {"ex_date": pl.col("date"), "cash": pl.lit(0.0), "bonus_ratio": pl.lit(0.0)}
    at |= {"rights_ratio": pl.lit(0.0), "rights_price": pl.lit(0.0)}
    gift = (pl.col("countAsGift") + pl.col("countOfIncreasement")) / 100_000
    offer = {"rights_ratio": pl.col("countForSell") / 100_000, "rights_price": pl.col("priceForSell") / 1000}
    columns = ["symbol", "event_type", *at]
    made = pl.concat(
        [
            declared.filter(pl.col("bonus") > 0).select(
                "symbol", event_type=pl.lit("cash"), **(at | {"cash": pl.col("bonus") / 10_000})
            ),
            declared.filter(gift > 0).select("symbol", event_type=pl.lit("bonus"), **(at | {"bonus_ratio": gift})),
            declared.filter(pl.col("countForSell") > 0).select("symbol", event_type=pl.lit("rights"), **(at | offer)),
        ]
    ).select(columns)
    made = made.filter(pl.col("symbol").is_in(daily["symbol"].unique().implode()))
    steps = factor_sets(made, daily, "CNY").steps
    assert steps.height == 82
    assert (steps["status"] == "applied").all()
    opened = steps.join(
        daily.select("symbol", "open", effective_session="session"), on=["symbol", "effective_session"]
    ).with_columns(off=(pl.col("open") / pl.col("ref_price") - 1).abs())
    limited = opened.filter((pl.col("ex_date") > date(1996, 12, 16)) & (pl.col("m") > 1.02))
    outside = limited.filter(pl.col("off") > 0.101)
    # Shares given in the 2005-07 reform of non-tradable shares did not lower the reference price.
    assert set(outside.select("symbol", "ex_date").rows()) == {
        ("sh.600000", date(2006, 5, 12)),
        ("sz.000001", date(2007, 6, 20)),
        ("sz.000004", date(2006, 8, 18)),
    }
    assert opened.filter(pl.col("rights_ratio") > 0)["off"].max() < 0.08  # type: ignore[operator]


def test_declared_vietnamese_events_explain_the_steps_another_source_published(shared_data: Path) -> None:
    declared = pl.read_parquet(shared_data / "vn_vndirect_events.parquet").drop_nulls("effectiveDate")
    daily = (
        pl.read_parquet(shared_data / "vn_cafef_daily.parquet")
        .filter(pl.col("symbol").is_in(declared["symbol"].unique().implode()))
        .select("symbol", session="date", close="GiaDongCua")
        .unique(["symbol", "session"], keep="last", maintain_order=True)
    )
    implied = pl.read_parquet(shared_data / "vn_cafef_implied_events.parquet")
    kinds = {"DIVIDEND": "cash", "STOCKDIV": "stock_dividend", "KINDDIV": "bonus"}
    made = declared.filter(pl.col("type").is_in(list(kinds))).select(
        "symbol",
        ex_date="effectiveDate",
        event_type=pl.col("type").replace_strict(kinds),
        cash=pl.col("dividend").fill_null(0.0) / 1000,  # VND; prices are in thousand VND
        bonus_ratio=pl.when(pl.col("type") == "DIVIDEND").then(0.0).otherwise(pl.col("ratio") / 100),
        provider=pl.lit("vndirect"),
    )
    steps = factor_sets(merge_events(made, ["vndirect"]).select(*EVENTS), daily, "VND").steps
    both = steps.filter(pl.col("status") == "applied").join(
        implied, left_on=["symbol", "effective_session"], right_on=["symbol", "ex_date"]
    )
    error = (both["m"] * both["factor_step_adj"] - 1).abs()
    assert both.height > 5000
    assert error.median() < 5e-4  # type: ignore[operator]
    assert (error < 2e-3).mean() > 0.87  # type: ignore[operator]


def test_hundreds_of_steps_multiply_without_drift() -> None:
    raw = pl.DataFrame({"symbol": ["X", "Y"]}).join(pl.DataFrame({"n": range(4000)}), how="cross")
    raw = raw.with_columns(
        close=10 + (pl.int_range(pl.len()) % 97) / 10, session=pl.lit(MONDAY) + pl.duration(days=pl.col("n"))
    )
    rows = raw.filter(pl.col("n") % 10 == 5).select("symbol", ex_date="session", event_type=pl.lit("cash"), cash=0.1)
    steps = factor_sets(rows, raw, "USD").steps
    last = adjusted(raw, steps, "hfq").group_by("symbol").agg(pl.col("factor").last())
    exact = steps.group_by("symbol").agg(pl.col("m").log().sum().exp())
    both = last.join(exact, on="symbol")
    assert steps.height == 800
    assert (both["factor"] / both["m"] - 1).abs().max() < 1e-12  # type: ignore[operator]
