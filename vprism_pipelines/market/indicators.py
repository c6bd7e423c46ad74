"""Daily indicators of every symbol of a market: what they are, as data, and one function that computes them.

    daily, state = compute(history)
    more, state = compute(tail_and_new_sessions, state)      # costs the new sessions, not the history

Both ways give the same bits (`market.kernels` says how). Definitions are in `market.formulas`.

Levels (`LEVELS`) are linear in the price scale: on the computing basis they are total-return hfq prices, and
qfq level = hfq level / F_hfq(last), so a view can rescale them. `SPLIT_LEVELS` scale with the split-only factor.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import numpy as np
import polars as pl

from vprism_pipelines.market.formulas import RECENT, Formulas, Long
from vprism_pipelines.market.indicator_catalogue import CATALOGUE, Basis, Indicator, Unit
from vprism_pipelines.market.indicator_inputs import Bars, Benchmark, Shared, shared
from vprism_pipelines.market.kernels import Array, Layout, Rows, pick
from vprism_pipelines.market.recursive import STATE, remembered
from vprism_pipelines.market.running import Resume, running_maximum, year_ends

__all__ = [
    "LEVELS",
    "LOOKBACK",
    "REACH",
    "SCHEMA",
    "SPLIT_LEVELS",
    "STATE_SCHEMA",
    "Basis",
    "Indicator",
    "Unit",
    "catalogue",
    "compute",
]

_FLOAT, _COUNT = pl.Float64(), pl.Int64()
SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    **{indicator.name: _FLOAT for indicator in CATALOGUE},
}
"""Columns of `analytics.daily` produced here, in order."""

STATE_SCHEMA: dict[str, pl.DataType] = {
    "symbol": pl.String(),
    "session": pl.Date(),
    "bars": _COUNT,
    "since": pl.Date(),
    "peak": _FLOAT,
    "year_end": _FLOAT,
    **dict.fromkeys(STATE, _FLOAT),
}
"""Columns of a state: the last session computed, bars until then, the session since when an incremental call needs
them, the highest close before that (null if there is none), the last close of the calendar year before, and each
recursion's last value."""

LEVELS: tuple[str, ...] = tuple(i.name for i in CATALOGUE if i.level and i.basis == "total_return")
"""Columns that scale with the total-return factor."""

SPLIT_LEVELS: tuple[str, ...] = tuple(i.name for i in CATALOGUE if i.level and i.basis == "split_adjusted")
"""Columns that scale with the split-only factor."""

LOOKBACK: int = max(indicator.window or 0 for indicator in CATALOGUE)
"""The longest window, in bars: as many before the first new one an incremental call needs of a symbol that trades."""

REACH: int = 2 * LOOKBACK
"""Exchange sessions that no window reaches beyond: it would be null."""

_PRICES = ("high", "low", "close")
_OTHERS = ("volume", "value", "raw_close", "raw_high", "raw_low", "split_high", "split_low", "split_close")
_BLOCK_ROWS = 49_152  # the arrays of a block fit the second-level cache, its results the 32 MiB that malloc keeps
_TAIL_ROWS = 131_072  # of tails most rows are only looked at: fewer, larger steps cost less
_BEGUN = max(i.first for i in CATALOGUE if i.window is None)  # a symbol with no more bars than these begins anew
_FEW = 24  # one row in so many wanted: from there on all windows together cost less than those wanted alone


def catalogue() -> tuple[Indicator, ...]:
    """Every indicator, in the order of its column in `SCHEMA`."""
    return CATALOGUE


def compute(
    bars: pl.DataFrame,
    state: pl.DataFrame | None = None,
    *,
    annualisation: int = 252,
    benchmark: pl.DataFrame | None = None,
    columns: Collection[str] | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Indicators of every symbol in `bars`.

    Symbols are independent of each other: any subset of them may be computed at a time. A symbol whose past changed
    must be computed anew from its whole history, with its row taken out of `state`.

    Args:
        bars: Traded bars, one per symbol (text or an Enum of it) and session, sorted by both. `session_no`: ordinal of
            the session on its exchange. `high`, `low`, `close`: total-return hfq prices, no nulls. `volume`: shares,
            adjusted to the share basis of `split_close`. `raw_close`, `raw_high`, `raw_low`: as traded. `value`:
            currency units. `split_high`, `split_low`, `split_close`: adjusted for splits only. All but the first three
            prices may be null, and so is what depends on them. All adjustments must be append-only: a new session may
            not change an old bar.
        state: None, and `bars` is the whole history; or the state an earlier call returned, and `bars` hold each
            symbol's bars from its `since` up to its `session` in `state` (earlier ones do no harm), then the new ones.
        annualisation: Sessions per year.
        benchmark: Its closes: `session`, `close`, covering the sessions of `bars`. None: beta and correlation are null.
        columns: The indicators wanted; only what they need is computed. None: all.

    Returns:
        Rows of `SCHEMA` for all bars after the symbol's session in `state`, and the new state (`STATE_SCHEMA`),
        including symbols without new bars. If only some `columns` are wanted, `SCHEMA` has only those, and the state
        only their recursions: it can be resumed for these columns, or for fewer.

    Raises:
        ValueError: `bars` are not what is described above, or do not continue `state`; there is no such column.
    """
    wanted = _wanted(columns)
    layout = _layout(bars)
    recursions = remembered([indicator.name for indicator in wanted])
    empty = pl.DataFrame(schema={k: v for k, v in STATE_SCHEMA.items() if k not in STATE or k in recursions})
    if state is not None and (missing := [name for name in empty.columns if name not in state.columns]):
        raise ValueError(f"state lacks {missing}: it was computed for other columns, compute anew without it")
    state = empty if state is None else state.select(empty.columns).cast(empty.schema)
    index = None if benchmark is None else _benchmark(benchmark)
    known = _continuation(bars, layout, state)

    def block(part: tuple[pl.DataFrame, pl.DataFrame]) -> tuple[pl.DataFrame, pl.DataFrame]:
        return _block(*part, annualisation, index, wanted)

    with ThreadPoolExecutor(pl.thread_pool_size()) as pool:  # numpy leaves the interpreter lock while it works
        parts = list(pool.map(block, _blocks(bars, known)))
    schema = {name: SCHEMA[name] for name in ("symbol", "session", *(indicator.name for indicator in wanted))}
    daily = pl.concat([part[0] for part in parts] or [pl.DataFrame(schema=schema)])
    if not daily["symbol"].is_sorted():
        daily = daily.sort("symbol", "session")
    reached = pl.concat([part[1] for part in parts] or [empty])
    untouched = state.join(reached, on="symbol", how="anti")
    return daily, pl.concat([reached, untouched]).sort("symbol")


# --- what a caller may get wrong ----------------------------------------------------------------------------------


def _wanted(columns: Collection[str] | None) -> list[Indicator]:
    """Indicators in the order of the catalogue."""
    if columns is None:
        return list(CATALOGUE)
    if unknown := [name for name in columns if name not in {indicator.name for indicator in CATALOGUE}]:
        raise ValueError(f"there are no indicators {unknown}: catalogue() lists those there are")
    return [indicator for indicator in CATALOGUE if indicator.name in columns]


def _layout(bars: pl.DataFrame) -> Layout:
    """The rows of each symbol, once `bars` proved to be usable."""
    missing = [c for c in ("symbol", "session", "session_no", *_PRICES, *_OTHERS) if c not in bars.columns]
    if missing:
        raise ValueError(f"bars lack the columns {missing}")
    for name in ("symbol", "session", "session_no", *_PRICES):
        if nulls := bars[name].null_count():
            raise ValueError(f"bars.{name} has {nulls} nulls: only traded bars can be computed, drop the others")
    for name in _PRICES:
        if not bars[name].is_finite().all():
            raise ValueError(f"bars.{name} has values that are not finite: quarantine those bars")
    opens = (bars["symbol"] != bars["symbol"].shift(1)).fill_null(True).to_numpy()
    starts = np.flatnonzero(opens)
    symbols = bars["symbol"].gather(starts)
    ordered = symbols.is_sorted() and symbols.n_unique() == len(symbols)
    for name in ("session", "session_no"):
        ordered = ordered and bool((np.diff(_integers(bars[name])) > 0)[~opens[1:]].all())
    if not ordered:
        raise ValueError("bars must be sorted by symbol and session, one row each, session_no growing with session")
    counts = np.diff(starts, append=bars.height)
    return Layout(counts.astype(np.int64), _integers(bars["session_no"]))


def _continuation(bars: pl.DataFrame, layout: Layout, state: pl.DataFrame) -> pl.DataFrame:
    """One row per symbol of `bars`: `rows`, its row in `state` if it has one, and `tail`, its rows up to then."""
    known = bars.select("symbol").gather(layout.starts).cast(pl.String).with_columns(rows=pl.Series(layout.counts))
    if state["symbol"].is_duplicated().any():
        raise ValueError("state has several rows for one symbol: pass what one earlier call returned")
    known = known.join(state, on="symbol", how="left", maintain_order="left")
    until, since = (_integers(known[name].fill_null(pl.date(1, 1, 1))) for name in ("session", "since"))
    session = _integers(bars["session"])
    seen = session <= until[layout.symbol]
    tail = np.bincount(layout.symbol[seen], minlength=len(layout.counts))
    resumes = known["session"].is_not_null().to_numpy()
    have = known["bars"].fill_null(0).to_numpy()
    last = session[np.maximum(layout.starts + tail - 1, 0)]
    wrong = resumes & ((session[layout.starts] > since) | (tail > have) | (last != until))
    if wrong.any():
        row = known.row(int(np.flatnonzero(wrong)[0]), named=True)
        raise ValueError(
            f"bars of {row['symbol']} do not continue its state: it ends on {row['session']} after {row['bars']} bars, "
            f"so those from {row['since']} up to then must come first; or compute the symbol anew"
        )
    return known.with_columns(tail=pl.Series(tail))


def _benchmark(benchmark: pl.DataFrame) -> Benchmark:
    closes = benchmark.select("session", pl.col("close").cast(pl.Float64)).drop_nulls().sort("session")
    if closes.is_empty() or closes["session"].is_duplicated().any():
        raise ValueError("the benchmark must have one close per session, and at least one")
    return Benchmark(_integers(closes["session"]), closes["close"].to_numpy())


# --- one block of symbols -----------------------------------------------------------------------------------------


def _blocks(bars: pl.DataFrame, known: pl.DataFrame) -> Iterator[tuple[pl.DataFrame, pl.DataFrame]]:
    """Whole symbols in pieces of about `_BLOCK_ROWS` rows, those that begin anew apart from those that go on."""
    anew = known["bars"].fill_null(0) <= _BEGUN
    for kind, size in ((anew, _BLOCK_ROWS), (~anew, _TAIL_ROWS)):
        some = known.filter(kind)
        counts = _integers(some["rows"])
        rows = bars if some.height == known.height else bars.filter(np.repeat(kind.to_numpy(), known["rows"]))
        ends = np.cumsum(counts)
        threads = pl.thread_pool_size()
        pieces = -(-rows.height // (size * threads)) * threads  # alike, and as many for each thread
        cuts = np.searchsorted(ends, rows.height * np.arange(1, pieces) // max(pieces, 1))
        for first, end in pairwise(np.unique([0, *cuts, len(ends)]).tolist()):
            yield rows[int(ends[first] - counts[first]) : int(ends[end - 1])], some[first:end]


def _block(
    bars: pl.DataFrame,
    known: pl.DataFrame,
    annualisation: int,
    benchmark: Benchmark | None,
    indicators: Collection[Indicator],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Indicators and state of some symbols."""
    before, tail = _integers(known["bars"].fill_null(0)), _integers(known["tail"])
    layout = Layout(_integers(known["rows"]), _integers(bars["session_no"]), before - tail)
    ends = layout.starts + layout.counts - 1
    resume = Resume(
        np.where(before > _BEGUN, layout.starts + tail - 1, -1),
        {name: _floats(known[name]) for name in STATE if name in known.columns},
    )
    new = layout.position >= np.repeat(tail, layout.counts)
    few = bool((resume.row >= 0).all()) and new.sum() * _FEW < bars.height
    at = np.union1d(np.flatnonzero(new), ends) if few else None  # the state is that of the last bar, new or not
    columns = {name: _floats(bars[name]) for name in (*_PRICES, *_OTHERS)}
    block = Bars(layout=layout, session=_integers(bars["session"]), **columns, at=at)
    highest = _floats(known["peak"])
    with np.errstate(all="ignore"):  # the first rows of a symbol look into the one before; they are blanked below
        peak = running_maximum(layout, block.close, highest)
        year_end = year_ends(layout, block.session, block.close, _floats(known["year_end"]), at)
        pairs = None if benchmark is None else shared(block, benchmark)
        formulas = Formulas([i.name for i in indicators], Long(block, peak, year_end, annualisation, pairs), resume)
        values = _blanked(layout, formulas, indicators, at)
    last = ends if at is None else np.searchsorted(at, ends)
    reached = before + layout.counts - tail
    since = np.where(reached > _BEGUN, _since(layout, ends, pairs), layout.starts)
    past = since > layout.starts
    state = known.select(
        "symbol",
        pl.Series("session", bars["session"].gather(ends)),
        pl.Series("bars", reached),
        pl.Series("since", bars["session"].gather(since)),
        pl.Series("peak", np.where(past, peak[np.maximum(since - 1, 0)], highest), nan_to_null=True),
        pl.Series("year_end", year_end[last], nan_to_null=True),
        *(pl.Series(name, x[last], nan_to_null=True) for name, x in formulas.recursions.items()),
    )
    daily = bars.select("symbol", "session")
    daily = (daily if at is None else daily[at]).cast({"symbol": pl.String}).hstack(values)
    return daily if new.all() else daily.filter(pick(new, at)), state


def _since(layout: Layout, ends: Rows, benchmark: Shared | None) -> Rows:
    """Row of the first bar that the windows of the next sessions may reach, the last rows being `ends`."""
    since = ends - LOOKBACK + 1
    if benchmark is not None:  # windows over the sessions shared with it skip the others
        place = np.searchsorted(benchmark.rows, ends, side="right") - LOOKBACK
        since = np.minimum(since, np.append(benchmark.rows, 0)[np.maximum(place, -1)])
    # No window is that long; but whether the last bars moved is asked of any, and one more tells how old a symbol is.
    reach = np.searchsorted(layout.line, layout.line[ends] - REACH) - 1
    needed: Rows = np.maximum(np.maximum(since, np.minimum(reach, ends - RECENT)), layout.starts)
    return needed


def _blanked(layout: Layout, formulas: Formulas, indicators: Collection[Indicator], at: Rows | None) -> list[pl.Series]:
    """Indicators, null before the first index, across suspensions and wherever there is no number."""
    import pyarrow as pa

    valid = {key: layout.valid(*key, at) for key in {(i.first, i.window) for i in indicators if not i.calendar}}
    age = pick(layout.age, at)
    table = np.empty((len(indicators), len(age)))  # one array: memory is asked for once, in large pages

    def blanked(indicator: Indicator, column: Array) -> pl.Series:
        column[:] = formulas[indicator.name]
        known = np.isfinite(column)
        known &= age >= indicator.first if indicator.calendar else valid[indicator.first, indicator.window]
        buffers = [pa.py_buffer(np.packbits(known, bitorder="little")), pa.py_buffer(column)]
        return pl.Series(indicator.name, pa.Array.from_buffers(pa.float64(), len(column), buffers))  # nothing is copied

    return list(map(blanked, indicators, table))


def _floats(series: pl.Series) -> Array:
    """Values with NaN for null."""
    return series.cast(pl.Float64).to_numpy()


def _integers(series: pl.Series) -> Rows:
    """Whole numbers; a date as days since 1970."""
    return series.to_physical().cast(pl.Int64).to_numpy()
