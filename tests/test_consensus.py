"""What a user of the golden vote can rely on: a whole bar of one provider, and nobody wins alone against two."""

from __future__ import annotations

from datetime import date
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.quality.consensus import AGREEMENT_BP, PRIOR_RELIABILITY, vote
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.reliability import outvoted

DAY = date(2026, 1, 5)
RANK = {"one": 0, "two": 1, "three": 2, "four": 3}
BASES = st.sampled_from(["raw", "adjusted_by_source"])


def candidate(provider: str, close: float, **fields: Any) -> dict[str, Any]:
    """A bar of a provider; `note` stands for every column the vote does not look at."""
    plain = {"symbol": "US:STOCK:A", "session": DAY, "provider": provider, "close": close, "price_basis": "raw"}
    spread = {"open": close, "high": close * 1.01, "low": close * 0.99, "volume": 1000}
    return plain | spread | {"flags": 0, "doubt": 0, "note": f"{provider}'s own"} | fields


def elect(bars: list[dict[str, Any]], reliability: dict[str, float] | None = None) -> pl.DataFrame:
    weights = reliability or {}
    return vote(pl.DataFrame([{"weight": weights.get(bar["provider"], PRIOR_RELIABILITY)} | bar for bar in bars]), RANK)


def winner(*candidates: dict[str, Any], reliability: dict[str, float] | None = None) -> dict[str, Any]:
    elected = elect(list(candidates), reliability)
    assert elected.height == 1
    return elected.row(0, named=True)


@settings(deadline=None)
@given(
    st.floats(1, 1e6),
    st.floats(-2, 2),
    st.floats(11, 1e6) | st.floats(-9000, -11),
    st.permutations(["one", "two", "three"]),
    st.lists(st.floats(0.51, 1), min_size=3, max_size=3),
)
def test_one_faulty_of_three_never_wins(
    close: float, noise: float, fault: float, names: list[str], weights: list[float]
) -> None:
    """However trusted it is, as long as nobody is worth less than half of another."""
    bad, *good = names
    elected = winner(
        candidate(bad, close * (1 + fault / 1e4)),
        candidate(good[0], close),
        candidate(good[1], close * (1 + noise / 1e4)),
        reliability=dict(zip(names, weights, strict=True)),
    )
    assert elected["provider"] in good
    assert elected["flags"] & BarFlag.DISSENT
    assert elected["n_sources"] == 3
    assert 0.5 < elected["confidence"] < 1


def test_the_winner_is_a_whole_bar_of_one_provider() -> None:
    elected = winner(candidate("two", 10.0, note="n2"), candidate("one", 10.001, note="n1"))
    assert (elected["provider"], elected["close"], elected["note"]) == ("one", 10.001, "n1")


def test_agreement_is_certain_and_raises_no_flag() -> None:
    elected = winner(candidate("one", 10.0), candidate("two", 10.0), candidate("three", 10.0))
    assert (elected["confidence"], elected["flags"], elected["n_sources"]) == (1.0, 0, 3)


def test_a_provider_alone_is_believed_as_far_as_it_is_reliable() -> None:
    assert winner(candidate("one", 10.0))["confidence"] == PRIOR_RELIABILITY
    alone = winner(candidate("one", 10.0), reliability={"one": 0.7})
    assert (alone["confidence"], alone["n_sources"], alone["flags"]) == (0.7, 1, 0)


def test_two_that_disagree_are_told_apart_by_reliability_then_rank() -> None:
    first, second = candidate("one", 10.0), candidate("two", 11.0)
    assert winner(second, first)["provider"] == "one"
    elected = winner(first, second, reliability={"one": 0.6, "two": 0.8})
    assert elected["provider"] == "two"
    assert round(elected["confidence"], 12) == round(0.8 / 1.4, 12)
    assert elected["flags"] & BarFlag.DISSENT


def test_agreement_ends_beyond_five_basis_points() -> None:
    at = winner(candidate("one", 10_000.0), candidate("two", 10_000.0 + AGREEMENT_BP))
    beyond = winner(candidate("one", 10_000.0), candidate("two", 10_000.0 + AGREEMENT_BP + 0.1))
    assert not at["flags"] & BarFlag.DISSENT
    assert beyond["flags"] & BarFlag.DISSENT


def test_an_adjusted_price_has_a_say_only_where_no_raw_one_exists() -> None:
    adjusted = [candidate(name, 5.0, price_basis="adjusted_by_source") for name in ("one", "two")]
    mixed = winner(*adjusted, candidate("four", 10.0))
    assert (mixed["provider"], mixed["n_sources"]) == ("four", 1)
    assert winner(*adjusted)["n_sources"] == 2


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["US:STOCK:A", "US:STOCK:B"]),
            st.sampled_from(sorted(RANK)),
            st.sampled_from([10.0, 10.004, 10.008, 11.0]),
            BASES,
        ),
        min_size=1,
        unique_by=lambda row: row[:2],
    ),
    st.lists(st.sampled_from([0.1, 0.2, 0.3, 0.7]), min_size=4, max_size=4),
    st.randoms(use_true_random=False),
)
def test_the_order_of_the_candidates_decides_nothing(
    rows: list[tuple[str, str, float, str]], weights: list[float], random: Any
) -> None:
    bars = [candidate(name, close, symbol=symbol, price_basis=basis) for symbol, name, close, basis in rows]
    reliability = dict(zip(sorted(RANK), weights, strict=True))
    first = elect(bars, reliability)
    random.shuffle(bars)
    second = elect(bars, reliability)
    assert first.sort("symbol").equals(second.sort("symbol"))
    assert first.height == len({row[0] for row in rows})
    assert first["confidence"].is_between(0, 1).all()


def test_where_closes_agree_range_and_volume_decide() -> None:
    wrong_volume = candidate("one", 10.0, volume=100_000)
    wrong_range = candidate("two", 10.0, high=20.0)
    assert winner(wrong_volume, candidate("three", 10.0), candidate("four", 10.0))["provider"] == "three"
    assert winner(wrong_range, candidate("three", 10.0), candidate("four", 10.0))["provider"] == "three"
    assert winner(wrong_volume, wrong_range, candidate("three", 10.0))["provider"] == "three"
    assert not winner(wrong_volume, candidate("three", 10.0))["flags"]


def test_a_bar_with_a_range_wins_over_a_mere_close() -> None:
    mere = candidate("one", 10.0, open=10.0, high=10.0, low=10.0)
    assert winner(mere, candidate("two", 10.0), reliability={"one": 1.0, "two": 0.9})["provider"] == "two"


@pytest.mark.parametrize("bit", [BarFlag.SPIKE, BarFlag.STALE_COPY, BarFlag.BAND_BREACH])
def test_a_bar_that_a_check_doubts_alone_weighs_less(bit: BarFlag) -> None:
    doubted, other = candidate("one", 10.0, doubt=int(bit)), candidate("two", 11.0)
    assert winner(doubted, other)["provider"] == "two"
    assert winner(doubted, other | {"doubt": int(bit)})["provider"] == "one"
    assert winner(doubted | {"doubt": int(BarFlag.PLACEHOLDER)}, other)["provider"] == "one"


def test_the_close_that_most_agree_with_counts_against_the_others() -> None:
    bars = [candidate("one", 11.0), candidate("two", 10.0), candidate("three", 10.0)]
    assert spoken_against(*bars) == {"one": 1.0}
    assert spoken_against(*bars[:2]) == {"one": 0.5, "two": 0.5}
    assert spoken_against(bars[0] | {"doubt": int(BarFlag.SPIKE)}, bars[1]) == {"one": 1.0}
    assert spoken_against(*bars[1:]) == {}
    pairs = [candidate("four", 11.0), *bars]
    assert spoken_against(*pairs) == dict.fromkeys(RANK, 0.5)


def spoken_against(*bars: dict[str, Any]) -> dict[str, float]:
    found = outvoted(pl.DataFrame(list(bars)).with_columns(weight=pl.lit(0.5)))
    return dict(found.select("provider", "against").iter_rows())
