"""Corporate actions deduced from raw and adjusted closes: what is found, what is not, and that it reproduces."""

from __future__ import annotations

import random
from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.test_actions import events
from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.adjustment import Convention, adjusted, factor_sets
from vprism_pipelines.market.inference import infer_actions, reproduction_errors

START = date(2012, 1, 2)
Terms = dict[int, tuple[float, float]]
"""Row of the ex-session -> cash per old share, new shares per old."""


def published(
    closes: list[float], terms: Terms, convention: Convention, decimals: int = 6, anchor: float = 1.0, symbol: str = "X"
) -> pl.DataFrame:
    """What a provider with this convention publishes: raw closes and adjusted closes rounded to some decimals."""
    raw = pl.DataFrame(
        {"symbol": symbol, "session": [START + timedelta(days=n) for n in range(len(closes))], "close": closes}
    )
    rows = [{"symbol": symbol, "ex_date": START + timedelta(days=n), "cash": c} for n, (c, _) in terms.items()]
    rows += [
        {"symbol": symbol, "ex_date": START + timedelta(days=n), "event_type": "split", "split_ratio": s}
        for n, (_, s) in terms.items()
    ]
    rows.append({"symbol": symbol, "ex_date": START - timedelta(days=1), "cash": 1.0})  # before the sample: no effect
    steps = factor_sets(events(*rows), raw, "").steps
    factors = adjusted(raw, steps, "qfq", convention).select("symbol", "session", "factor")
    return raw.join(factors, on=["symbol", "session"]).select(
        "symbol", "session", "close", adj_close=(pl.col("close") * pl.col("factor") * anchor).round(decimals)
    )


def walk(seed: int, length: int = 60, price: float = 40.0, splits: Terms | None = None) -> list[float]:
    """A random walk of closes in cents that halves on a 2-for-1 split."""
    source, closes = random.Random(seed), []
    for n in range(length):
        price *= (1 + source.uniform(-0.03, 0.03)) / (splits or {}).get(n, (0.0, 1.0))[1]
        closes.append(round(price, 2))
    return closes


def found(bars: pl.DataFrame, decimals: int = 6, convention: Convention | None = None) -> Terms:
    """Inferred events by row, one entry per ex-date."""
    inference = infer_actions(bars, decimals, convention=convention)
    assert inference.events["inferred"].all()
    assert reproduction_errors(bars, inference, decimals).is_empty()
    units = inference.events.group_by("ex_date").agg(pl.col("cash").sum(), pl.col("split_ratio").product())
    return {(d - START).days: (cash, split) for d, cash, split in units.sort("ex_date").iter_rows()}


@pytest.mark.parametrize("convention", ["ex_close", "prev_close"])
def test_splits_and_dividends_are_found_with_their_exact_terms(convention: Convention) -> None:
    terms: Terms = {10: (0.08, 1.0), 20: (0.0, 2.0), 21: (0.16, 1.0), 40: (3.08, 1.0), 50: (0.0, 0.1)}
    assert found(published(walk(1, splits=terms), terms, convention), convention=convention) == terms


@pytest.mark.parametrize("convention", ["ex_close", "prev_close"])
def test_a_split_and_a_dividend_on_one_day_are_told_apart(convention: Convention) -> None:
    terms: Terms = {10: (0.44, 2.0), 20: (1.5, 7.0), 30: (0.25, 1.5)}
    closes = walk(2, price=700.0, splits=terms)
    assert found(published(closes, terms, convention), convention=convention) == terms


@pytest.mark.parametrize("truth", ["ex_close", "prev_close"])
def test_the_convention_of_the_provider_is_recognised(truth: Convention) -> None:
    terms: Terms = {n: (round(0.1 + n / 200, 2), 1.0) for n in range(5, 60, 9)}
    inference = infer_actions(published(walk(3), terms, truth), 6)
    assert inference.convention == truth
    digits = dict(inference.fits.select("convention", "digits").iter_rows())
    assert digits[truth] < 3 < 4 < max(digits.values())


@pytest.mark.parametrize("ratio", [2.0, 3.0, 1.5, 4 / 3, 7.0, 20.0, 0.1, 0.125, 0.05, 2 / 3])
def test_split_ratios_are_recognised(ratio: float) -> None:
    terms: Terms = {12: (0.0, ratio)}
    assert found(published(walk(4, price=90.0, splits=terms), terms, "ex_close")) == {12: (0.0, pytest.approx(ratio))}


def test_the_anchor_is_what_later_events_did_to_the_sample() -> None:
    terms: Terms = {30: (0.5, 1.0)}
    anchored = infer_actions(published(walk(5), terms, "ex_close", anchor=0.130409), 6)
    assert anchored.anchors["anchor"].item() == pytest.approx(0.130409, rel=1e-7)
    assert anchored.anchors["low"].item() <= 0.130409 <= anchored.anchors["high"].item()
    assert infer_actions(published(walk(5), terms, "ex_close"), 6).anchors["anchor"].item() == 1.0


def test_a_misprinted_row_is_listed_and_is_no_event() -> None:
    terms: Terms = {30: (0.5, 1.0)}
    bars = published(walk(6), terms, "ex_close").with_columns(
        adj_close=pl.when(pl.int_range(pl.len()) == 15).then(pl.col("adj_close") + 0.01).otherwise("adj_close")
    )
    inference = infer_actions(bars, 6)
    wrong = reproduction_errors(bars, inference, 6)
    assert wrong["session"].to_list() == [START + timedelta(days=15)]
    assert wrong["error"].item() == pytest.approx(0.01, abs=1e-6)
    assert inference.events["cash"].to_list() == [0.5]


def test_a_step_that_is_no_event_is_reported_and_not_invented() -> None:
    bars = published(walk(7), {}, "ex_close").with_columns(
        adj_close=pl.when(pl.int_range(pl.len()) < 30).then(pl.col("adj_close") * 1.004).otherwise("adj_close").round(6)
    )
    inference = infer_actions(bars, 6)
    assert inference.events.is_empty()
    assert inference.unexplained["session"].to_list() == [START + timedelta(days=30)]
    assert reproduction_errors(bars, inference, 6).height == 30


def test_symbols_do_not_disturb_each_other_and_order_does_not_matter() -> None:
    one = published(walk(8), {20: (0.3, 1.0)}, "ex_close", symbol="A")
    two = published(walk(9, splits={5: (0.0, 2.0)}), {5: (0.0, 2.0)}, "ex_close", symbol="B")
    both = infer_actions(pl.concat([two, one]).sample(fraction=1, shuffle=True, seed=3), 6)
    assert both.events.equals(pl.concat([infer_actions(one, 6).events, infer_actions(two, 6).events]))


def test_unpublished_rows_are_skipped_and_nothing_in_gives_nothing_out() -> None:
    bars = published(walk(10), {30: (0.5, 1.0)}, "ex_close").with_columns(
        adj_close=pl.when(pl.int_range(pl.len()) == 3).then(None).otherwise("adj_close")
    )
    assert found(bars) == {30: (0.5, 1.0)}
    nothing = infer_actions(bars.clear(), 6)
    assert nothing.events.is_empty()
    assert nothing.anchors.is_empty()
    with pytest.raises(ContractViolation, match="adj_close"):
        infer_actions(bars.drop("adj_close"), 6)


def test_events_carry_provider_and_currency() -> None:
    bars = published(walk(11), {30: (0.5, 1.0)}, "ex_close")
    inference = infer_actions(bars, 6, provider="sample", currency="USD")
    event = inference.events.row(0, named=True)
    assert (event["provider"], event["currency"], event["inferred"]) == ("sample", "USD", True)
    assert reproduction_errors(bars, inference, 6).is_empty()


@settings(max_examples=40, deadline=None)
@given(
    st.integers(0, 10**6),
    st.dictionaries(
        st.integers(2, 58), st.tuples(st.floats(0.002, 0.08), st.sampled_from([1.0, 1.0, 2.0, 1.5])), max_size=6
    ),
    st.sampled_from(["ex_close", "prev_close"]),
    st.floats(0.05, 1.0),
)
def test_what_a_provider_published_is_given_back_on_every_row(
    seed: int, yields: Terms, convention: Convention, anchor: float
) -> None:
    closes = walk(seed, splits=yields)
    terms = {n: (round(share * closes[n - 1], 2) + 0.01, ratio) for n, (share, ratio) in yields.items()}
    bars = published(closes, terms, convention, anchor=anchor)
    inference = infer_actions(bars, 6, convention=convention)
    assert reproduction_errors(bars, inference, 6).is_empty()
    assert {(d - START).days for d in inference.events["ex_date"]} == set(terms)
    assert inference.unexplained.is_empty()


# --- real history ---------------------------------------------------------------------------------------------------


def test_the_public_domain_sample_is_reproduced_on_every_row(shared_data: Path) -> None:
    bars = pl.read_parquet(shared_data / "us_bokeh_2026_1_wiki5_public_domain.parquet").select(
        "symbol", session="date", close="Close", adj_close="Adj Close"
    )
    inference = infer_actions(bars, 6)
    assert bars.height == 12_154
    assert reproduction_errors(bars, inference, 6).is_empty()
    assert inference.convention == "ex_close"
    known = set(inference.events.select("symbol", "ex_date", "event_type", "cash", "split_ratio").rows())
    assert {
        ("AAPL", date(2005, 2, 28), "split", 0.0, 2.0),
        ("AAPL", date(2012, 8, 9), "cash", 2.65, 1.0),
        ("MSFT", date(2003, 2, 18), "split", 0.0, 2.0),
        ("MSFT", date(2003, 2, 19), "cash", 0.08, 1.0),
        ("MSFT", date(2004, 11, 15), "cash", 3.08, 1.0),
    } <= known
    assert dict(inference.anchors.select("symbol", "anchor").iter_rows())["FB"] == 1.0
    total = adjusted(bars, factor_sets(inference.events, bars, "USD").steps, "total_return")
    scaled = total.join(inference.anchors.select("symbol", "anchor"), on="symbol")
    assert ((scaled["close"] * scaled["anchor"] - scaled["adj_close"]).abs() <= 0.5e-6 * (1 + 1e-9)).all()


@pytest.mark.parametrize("decimals", [6, 4, 3])
def test_all_declared_events_of_nasdaq_wiki_are_found_from_its_prices_alone(shared_data: Path, decimals: int) -> None:
    wiki = pl.read_parquet(shared_data / "us_quandl_wiki_aapl_msft.parquet").rename({"date": "session"})
    bars = wiki.select("symbol", "session", close="Close", adj_close=pl.col("Adj. Close").round(decimals))
    inference = infer_actions(bars, decimals)
    assert reproduction_errors(bars, inference, decimals).is_empty()
    declared = wiki.filter((pl.col("Ex-Dividend") > 0) | (pl.col("Split Ratio") != 1))
    got = inference.events.group_by("symbol", "ex_date").agg(pl.col("cash").sum(), pl.col("split_ratio").product())
    assert set(got.rows()) == set(declared.select("symbol", "session", "Ex-Dividend", "Split Ratio").rows())


def test_yahoo_dividends_are_found_on_their_days_without_a_false_one(shared_data: Path) -> None:
    yahoo = pl.read_parquet(shared_data / "us_yahoo_sp500_asof_2026_03.parquet").rename({"date": "session"})
    bars = yahoo.select(
        "symbol", "session", close=pl.col("Close").cast(pl.Float64), adj_close=pl.col("Adj Close").cast(pl.Float64)
    )
    inference = infer_actions(bars, 6, close_error=1e-6)
    assert inference.convention == "prev_close"
    declared = yahoo.filter(pl.col("Dividends") > 0).select("symbol", "Dividends", ex_date="session")
    # On a symbol's first row nothing can be seen; AMCR's dividend of 2017-09-01 was applied one session late.
    seen = declared.join(bars.group_by("symbol").agg(first=pl.col("session").min()), on="symbol").filter(
        pl.col("ex_date") > pl.col("first")
    )
    both = seen.join(inference.events, on=["symbol", "ex_date"], how="full", coalesce=True)
    assert both.filter(pl.col("cash").is_null() & pl.col("Dividends").is_not_null()).height <= 1
    assert both.filter(pl.col("Dividends").is_null()).height <= 5
    assert ((both["cash"] / both["Dividends"] - 1).abs() < 0.01).mean() > 0.999  # type: ignore[operator]
