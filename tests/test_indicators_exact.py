"""Indicators have the same bits however they are computed, and refuse what they cannot continue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.indicator_bars import EPOCH, assert_close, benchmark_of, continuation, history, market, markets, reference
from vprism_pipelines.market import formulas, indicators, recursive
from vprism_pipelines.market.indicators import LOOKBACK, SCHEMA, STATE_SCHEMA, catalogue, compute

# --- the same bits however it is computed ---------------------------------------------------------------------------


@settings(max_examples=40, deadline=None)
@given(markets, st.lists(st.floats(0, 1), min_size=1, max_size=3), st.sampled_from([0.0, 0.05]))
def test_new_sessions_on_a_state_give_exactly_what_a_rebuild_gives(
    drawn: tuple[int, list[int], float, float], cuts: list[float], missing: float
) -> None:
    bars = market(*drawn)
    sessions = bars["session"].unique().sort()
    rng = np.random.default_rng(drawn[0])
    benchmark = benchmark_of(rng, (sessions[-1] - EPOCH).days + 1, missing)
    rebuilt, rebuilt_state = compute(bars, benchmark=benchmark)

    state, pieces = None, []
    for share in [*sorted(cuts), 1.0]:
        until = sessions[round(share * (len(sessions) - 1))]
        known = bars.filter(pl.col("session") <= until)
        piece, state = compute(known if state is None else continuation(known, state), state, benchmark=benchmark)
        pieces.append(piece)

    assert pl.concat(pieces).sort("symbol", "session").equals(rebuilt)
    assert state is not None
    assert state.equals(rebuilt_state)


@settings(max_examples=15, deadline=None)
@given(markets, st.integers(1, 2000))
def test_neighbours_and_blocks_do_not_change_a_bit(drawn: tuple[int, list[int], float, float], block: int) -> None:
    bars = market(*drawn)
    benchmark = bars.filter(symbol=bars["symbol"][0]).select("session", "close")
    together, state = compute(bars, benchmark=benchmark)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(indicators, "_BLOCK_ROWS", block)
        assert compute(bars, benchmark=benchmark)[0].equals(together)
    alone = [compute(part, benchmark=benchmark) for part in bars.partition_by("symbol", maintain_order=True)]
    assert pl.concat(daily for daily, _ in alone).equals(together)
    assert pl.concat(own for _, own in alone).sort("symbol").equals(state)


@settings(max_examples=20, deadline=None)
@given(markets, st.sets(st.sampled_from([indicator.name for indicator in catalogue()])), st.floats(0, 1))
def test_some_columns_are_those_of_all_whether_computed_at_once_or_resumed(
    drawn: tuple[int, list[int], float, float], names: set[str], share: float
) -> None:
    bars = market(*drawn)
    benchmark = bars.filter(symbol=bars["symbol"][0]).select("session", "close")
    every, every_state = compute(bars, benchmark=benchmark)
    some, state = compute(bars, benchmark=benchmark, columns=names)
    assert some.equals(every.select("symbol", "session", *(name for name in SCHEMA if name in names)))
    assert state.equals(every_state.select(state.columns))

    sessions = bars["session"].unique().sort()
    until = sessions[round(share * (len(sessions) - 1))]
    before, known = compute(bars.filter(pl.col("session") <= until), benchmark=benchmark, columns=names)
    later, reached = compute(continuation(bars, known), known, benchmark=benchmark, columns=names)
    assert pl.concat([before, later]).sort("symbol", "session").equals(some)
    assert reached.equals(state)


def test_some_columns_need_no_more_than_their_own_recursions(monkeypatch: pytest.MonkeyPatch) -> None:
    run: list[str] = []

    def noted(layout: object, resume: object, recursions: dict[str, object]) -> dict[str, object]:
        run.extend(recursions)
        return recurse(layout, resume, recursions)  # type: ignore[arg-type, return-value]

    recurse = recursive.recurse
    monkeypatch.setattr(recursive, "recurse", noted)
    monkeypatch.setattr(formulas, "comoments", lambda *_, **__: pytest.fail("no beta was asked for"))
    bars = history(1, 300)
    benchmark = bars.select("session", "close")
    for columns, needed in {("sma_20",): [], ("rsi_14",): ["gain", "loss"], ("macd",): ["ema_26", "macd_fast"]}.items():
        run.clear()
        _, state = compute(bars, benchmark=benchmark, columns=columns)
        assert sorted(run) == needed
        assert sorted(state.columns[6:]) == needed


def test_a_state_of_other_columns_and_columns_that_are_not_there_are_refused() -> None:
    bars = history(1, 400)
    _, state = compute(bars[:390], columns=("sma_20", "rsi_14"))
    assert compute(bars, state, columns=("rsi_14",))[0].equals(
        compute(bars)[0][390:].select("symbol", "session", "rsi_14")
    )
    with pytest.raises(ValueError, match=r"state lacks \['atr'\].*compute anew"):
        compute(bars, state, columns=("rsi_14", "atr_14"))
    with pytest.raises(ValueError, match=r"there are no indicators \['sma_21'\]"):
        compute(bars, columns=("sma_20", "sma_21"))


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 2**32), st.integers(1, 6), st.sampled_from([0.0, 0.02, 0.3]), st.sampled_from([0.0, 0.1]))
def test_session_after_session_gives_exactly_what_a_rebuild_gives(
    seed: int, sessions: int, suspended: float, missing: float
) -> None:
    """As a market lives: a few rows of many, which are computed alone."""
    lengths = [150, 260, 300, 520, 900, 900, 900]
    bars = pl.concat(history(seed + n, rows, f"S{n}", tick=0.01, suspended=suspended) for n, rows in enumerate(lengths))
    # All end on one session, as what is listed today does.
    last = bars["session_no"].max()
    bars = bars.with_columns(session_no=pl.col("session_no") + last - pl.col("session_no").max().over("symbol"))
    bars = bars.with_columns(session=pl.lit(EPOCH) + pl.duration(days=pl.col("session_no")))
    newest = bars["session"].max()
    benchmark = benchmark_of(np.random.default_rng(seed), (newest - EPOCH).days + 1, missing)
    rebuilt, rebuilt_state = compute(bars, benchmark=benchmark)
    _, state = compute(bars.filter(pl.col("session") <= newest - timedelta(days=sessions)), benchmark=benchmark)
    for ago in reversed(range(sessions)):
        until = newest - timedelta(days=ago)
        known = continuation(bars.filter(pl.col("session") <= until), state)
        more, state = compute(known, state, benchmark=benchmark)
        assert more.equals(rebuilt.filter(session=until))
    assert state.equals(rebuilt_state)


def test_a_symbol_without_new_bars_keeps_its_state() -> None:
    quiet, busy = history(1, 700, "A"), history(2, 700, "B")
    _, state = compute(pl.concat([quiet, busy[:600]]))
    daily, after = compute(continuation(busy, state), state)
    assert after.filter(symbol="A").equals(state.filter(symbol="A"))
    assert daily["symbol"].unique().to_list() == ["B"]
    daily, again = compute(continuation(pl.concat([quiet, busy]), after), after)
    assert daily.is_empty()
    assert again.equals(after)


def test_a_listing_joins_in_the_middle() -> None:
    old, listed = history(1, 700, "A"), history(2, 90, "B")
    _, state = compute(old[:600])
    daily, state = compute(continuation(pl.concat([old, listed]), state), state)
    assert daily.filter(symbol="B").equals(compute(listed)[0])
    assert state["symbol"].to_list() == ["A", "B"]


def test_nothing_in_nothing_out() -> None:
    daily, state = compute(history(1, 5).clear())
    assert daily.schema == pl.Schema(SCHEMA)
    assert state.schema == pl.Schema(STATE_SCHEMA)
    assert daily.is_empty()
    assert state.is_empty()


# --- what callers get wrong -------------------------------------------------------------------------------------------


def set_price(value: float | None) -> Callable[[pl.DataFrame], pl.DataFrame]:
    return lambda bars: bars.with_columns(close=pl.when(pl.int_range(pl.len()) == 3).then(value).otherwise("close"))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (set_price(None), "close has 1 null"),
        (set_price(float("nan")), "close has values that are not finite"),
        (set_price(float("inf")), "close has values that are not finite"),
        (lambda bars: bars.reverse(), "sorted by symbol and session"),
        (lambda bars: pl.concat([bars, bars[-1:]]), "sorted by symbol and session"),
        (lambda bars: pl.concat([bars, history(1, 5, "B"), bars]), "sorted by symbol and session"),
        (lambda bars: bars.with_columns(session_no=pl.lit(1)), "session_no growing"),
        (lambda bars: bars.drop("raw_close"), "lack the columns ['raw_close']"),
    ],
)
def test_bars_that_cannot_be_computed_are_refused(damage: Callable[[pl.DataFrame], pl.DataFrame], message: str) -> None:
    with pytest.raises(ValueError) as refusal:
        compute(damage(history(1, 10)))
    assert message in str(refusal.value)


def test_bars_that_do_not_continue_the_state_are_refused() -> None:
    bars = history(1, 700)
    _, state = compute(bars[:650])
    compute(bars[650 - LOOKBACK :], state)
    too_short, without_tail, before_the_state = bars[650 - LOOKBACK + 1 :], bars[650:], bars[:640]
    without_the_last = pl.concat([bars[:649], bars[650:]])
    for wrong in (too_short, without_tail, before_the_state, without_the_last):
        with pytest.raises(ValueError, match="do not continue its state"):
            compute(wrong, state)
    with pytest.raises(ValueError, match="several rows for one symbol"):
        compute(bars, pl.concat([state, state]))


def test_a_benchmark_with_two_closes_for_a_session_is_refused() -> None:
    bars = history(1, 10)
    closes = bars.select("session", "close")
    for wrong in (closes.clear(), pl.concat([closes, closes[-1:]])):
        with pytest.raises(ValueError, match="one close per session"):
            compute(bars, benchmark=wrong)


# --- real history -----------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_real_us_history_agrees_with_ta_lib_and_resumes_exactly(shared_data: Path) -> None:
    source = pl.read_parquet(shared_data / "us_bokeh_2026_1_wiki5_public_domain.parquet").sort("symbol", "date")
    factor = pl.col("Adj Close") / pl.col("Close")
    raw = [
        pl.col(name).alias(f"{basis}_{name.lower()}") for basis in ("raw", "split") for name in ("High", "Low", "Close")
    ]
    bars = source.select(
        "symbol",
        pl.col("date").alias("session"),
        pl.col("date").rank("dense").cast(pl.Int32).alias("session_no"),
        *((pl.col(name) * factor).alias(name.lower()) for name in ("Open", "High", "Low", "Close")),
        pl.col("Volume").alias("volume"),
        (pl.col("Volume") * pl.col("Close")).alias("value"),
        *raw,
    )
    benchmark = bars.filter(symbol="IBM").select("session", "close")
    daily, state = compute(bars, benchmark=benchmark)
    for part in bars.partition_by("symbol"):
        ours = daily.filter(symbol=part["symbol"][0])
        typical = (part["high"] + part["low"] + part["close"]) / 3
        # Where typical prices differ by rounding only, the direction of TA-Lib's money flow is chance.
        chance = (typical.pct_change().abs() < 1e-12).cast(int).rolling_max(14) == 1
        for name, answer in reference(part).items():
            keep = ~chance.fill_null(False).to_numpy() if name == "mfi_14" else None
            assert_close(ours[name], answer, where=keep)
    yesterday = bars["session"].max() - timedelta(days=1)
    _, before = compute(bars.filter(pl.col("session") <= yesterday), benchmark=benchmark)
    today, after = compute(continuation(bars, before), before, benchmark=benchmark)
    assert today.equals(daily.filter(pl.col("session") > yesterday))
    assert after.equals(state)
