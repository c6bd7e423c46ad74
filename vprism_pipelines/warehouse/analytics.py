"""Building indicators from golden bars: one new session costs one session, and the result equals a full rebuild.

Indicators run on traded bars, on the hfq basis, which only ever grows at its end. A symbol whose past changed is
computed again from its first bar; any other continues from its stored state, from as many bars as that asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import duckdb
import numpy as np
import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.market.references import references
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.tables import Table
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import Built, frame, insert, prefix, write_behind
from vprism_pipelines.warehouse.indicator_tables import DAILY, STATE, TAIL

# Rows of bars computed at once during a full computation; those before them are being written meanwhile.
BLOCK_ROWS = 250_000
# Share of `analytics.tail` that no window reaches any more, from which on it is cleared away.
STALE = 0.25

_COLUMNS = ("symbol", "session", "high", "low", "close", "volume", "value", "exchange")
_BARS = f"SELECT {', '.join(_COLUMNS)} FROM golden.bars"


def build_daily(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `analytics.daily` up to golden, inside the caller's transaction."""
    work = _work(connection, spec)
    if work.is_empty():
        return Built(0, 0, {})
    basis = _basis(connection, spec)
    restarted, resumed = work.filter(~pl.col("resumes")), work.filter("resumes")
    with _registered(connection, work.select("symbol", "resumes")):
        connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM analytics_work)")
        if restarted.height:
            gone = "symbol IN (SELECT symbol FROM analytics_work WHERE NOT resumes)"
            connection.execute(f"DELETE FROM analytics.daily WHERE {gone}")
            connection.execute(f"DELETE FROM analytics.tail WHERE {gone}")
    written = write_behind(
        (basis.factored(_whole(connection, block)) for block in _blocks(connection, restarted)),
        lambda factored: _computed(spec, factored, basis, None),
        partial(_write, connection),
    )
    if resumed.height:
        tails = _tails(connection, basis, resumed)
        written += _write(connection, _computed(spec, tails, basis, resumed.select(STATE.names)))
    _hand_on(connection, work)
    return Built(work.height, written, {"restarted": restarted.height, "resumed": resumed.height})


# --- what there is to do ------------------------------------------------------------------------------------------


def _work(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """One row per symbol to compute: since when it changed, its state if it has one, and whether that still holds."""
    dirty = frame(
        connection,
        f"""SELECT symbol, min(from_session) AS from_session, max(batch) AS batch FROM ops.dirty
            WHERE stage = 'analytics' AND {prefix(spec)} GROUP BY symbol""",
    )
    if dirty.is_empty():
        return dirty
    state = frame(connection, f"SELECT * FROM analytics.state WHERE {prefix(spec)}")
    # Every beta rests on the benchmark: what was computed before one of its bars came, or changed, is computed anew.
    benchmark = dirty.filter(symbol=spec.benchmark or "").select(rested="from_session", moved="batch")
    work = dirty.join(state, on="symbol", how="left")
    if benchmark.height:
        resting = state.join(benchmark, how="cross").filter(pl.col("session") >= pl.col("rested"))
        work = (
            work.join(resting.select("symbol", "rested"), on="symbol", how="left")
            .with_columns(from_session=pl.min_horizontal("from_session", "rested"))
            .select(work.columns)
        )
        others = resting.join(dirty, on="symbol", how="anti").rename({"rested": "from_session", "moved": "batch"})
        work = pl.concat([work, others.select(work.columns)])
    resumes = (pl.col("from_session") > pl.col("session")).fill_null(False)
    return work.with_columns(resumes=resumes).sort("symbol")


def _hand_on(connection: duckdb.DuckDBPyConnection, work: pl.DataFrame) -> None:
    """What was done here is work for the tables across symbols."""
    with _registered(connection, work.select("symbol", "from_session", "batch")):
        connection.execute(
            "DELETE FROM ops.dirty WHERE stage = 'analytics' AND symbol IN (SELECT symbol FROM analytics_work)"
        )
        connection.execute("INSERT INTO ops.dirty BY NAME SELECT 'market' AS stage, * FROM analytics_work")


# --- bars -----------------------------------------------------------------------------------------------------------


def _blocks(connection: duckdb.DuckDBPyConnection, symbols: pl.DataFrame) -> Iterator[pl.DataFrame]:
    """Symbols in groups of about `BLOCK_ROWS` bars."""
    with _registered(connection, symbols.select("symbol")):
        sizes = frame(
            connection,
            "SELECT symbol, count(*) AS bars FROM golden.bars SEMI JOIN analytics_work USING (symbol)"
            " GROUP BY symbol ORDER BY symbol",
        )
    block = (pl.col("bars").cum_sum() - pl.col("bars")) // BLOCK_ROWS
    yield from sizes.select("symbol", block=block).partition_by("block", include_key=False, maintain_order=True)


def _whole(connection: duckdb.DuckDBPyConnection, symbols: pl.DataFrame) -> pl.DataFrame:
    """All traded bars of some symbols."""
    with _registered(connection, symbols):
        return frame(
            connection,
            f"{_BARS} SEMI JOIN analytics_work USING (symbol) WHERE {TRADED} ORDER BY symbol, session",
        )


def _tails(connection: duckdb.DuckDBPyConnection, basis: _Basis, resumed: pl.DataFrame) -> pl.DataFrame:
    """The last bars of symbols that only grew, as they were left in `analytics.tail`, and the new ones."""
    span: dict[str, object] = {"first": resumed["symbol"][0], "last": resumed["symbol"][-1]}
    among = "symbol BETWEEN $first AND $last"
    old = frame(connection, f"SELECT * FROM analytics.tail WHERE {among}", span)
    span["since"] = resumed["from_session"].min()
    grown = f"{_BARS} WHERE {TRADED} AND {among} AND session >= $since ORDER BY symbol, session"
    news = basis.factored(frame(connection, grown, span))
    # Numbered symbols sort and compare several times faster than their names.
    numbers = pl.col("symbol").cast(pl.Enum(resumed["symbol"]), strict=False)
    old, news = (frame.with_columns(numbers).filter(pl.col("symbol").is_not_null()) for frame in (old, news))
    news = news.filter(news["session"] > resumed["session"].gather(news["symbol"].to_physical()))
    if (old["session"] < resumed["since"].gather(old["symbol"].to_physical())).sum() > STALE * old.height:
        _clear(connection, resumed)
    bars = pl.concat([old, news], how="diagonal")
    line = bars.select(pl.col("symbol").to_physical().cast(pl.Int64) * 2**32 + pl.col("session").to_physical())
    return bars[np.argsort(line.to_series().to_numpy(), kind="stable")]


def _clear(connection: duckdb.DuckDBPyConnection, state: pl.DataFrame) -> None:
    """Remove bars that no window reaches any more."""
    with _registered(connection, state.select("symbol", "since")):
        connection.execute(
            "DELETE FROM analytics.tail AS t USING analytics_work AS w"
            " WHERE t.symbol = w.symbol AND t.session < w.since"
        )


@dataclass(frozen=True, slots=True)
class _Basis:
    """What turns traded prices into those the indicators read.

    Attributes:
        sessions: session, session_no. Exchanges of a market may be closed on different days: their ordinals cannot be
            mixed, the market's can.
        factors: symbol, session since when they hold, hfq, shares, ref_price; by session.
        benchmark: session, close on the hfq basis; None if golden has no benchmark.
    """

    sessions: pl.DataFrame
    factors: pl.DataFrame
    benchmark: pl.DataFrame | None

    def factored(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Traded bars and the factors that hold for them, sorted alike; ref_price where an event takes effect."""
        return (
            bars.join(self.sessions.select("session"), on="session", how="semi")
            .join_asof(self.factors, on="session", by="symbol", coalesce=False, check_sortedness=False)
            .select(
                *_COLUMNS,
                pl.col("hfq", "shares").fill_null(1.0),
                ref_price=pl.when(pl.col("session_right") == pl.col("session")).then("ref_price"),
            )
        )

    def priced(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Factored bars as `indicators.compute` and `references` read them."""
        prices = ("high", "low", "close")
        return bars.join(self.sessions, on="session", maintain_order="left").select(
            "symbol",
            "session",
            "session_no",
            "exchange",
            "value",
            "ref_price",
            pl.col(*prices, "volume").name.prefix("raw_"),
            *((pl.col(name) * pl.col("shares")).alias(f"split_{name}") for name in prices),
            *(pl.col(name) * pl.col("hfq") for name in prices),
            volume=pl.col("volume") / pl.col("shares"),
        )


def _basis(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> _Basis:
    sessions = frame(
        connection,
        "SELECT session, (row_number() OVER (ORDER BY session))::INTEGER AS session_no"
        " FROM (SELECT DISTINCT session FROM golden.sessions WHERE market = $market)",
        {"market": spec.code},
    )
    factors = frame(
        connection,
        f"""SELECT symbol, effective_session AS session, arg_max(hfq, ex_date) AS hfq,
                   arg_max(shares, ex_date) AS shares, arg_max(ref_price, ex_date) AS ref_price
            FROM golden.factor_steps WHERE status = 'applied' AND {prefix(spec)}
            GROUP BY ALL ORDER BY session, symbol""",
    )
    basis = _Basis(sessions, factors, None)
    closes = frame(
        connection,
        f"{_BARS} WHERE symbol = $symbol ORDER BY session",
        {"symbol": spec.benchmark},
    )
    if closes.is_empty():
        return basis
    return _Basis(sessions, factors, basis.priced(basis.factored(closes)).select("session", "close"))


# --- writing --------------------------------------------------------------------------------------------------------


_Made = tuple[tuple[Table, pl.DataFrame], ...]  # rows by table, the indicators first


def _computed(spec: MarketSpec, factored: pl.DataFrame, basis: _Basis, state: pl.DataFrame | None) -> _Made:
    """Rows for the bars after each symbol's session in `state`, the states they lead to and their tails."""
    if factored.is_empty():
        return ()
    bars = basis.priced(factored)
    daily, reached = indicators.compute(bars, state, annualisation=spec.annualisation, benchmark=basis.benchmark)
    if state is None:
        last = bars.select("symbol").join(reached, on="symbol", how="left", maintain_order="left")["since"]
        measured, tail = references(_as_traded(bars)), factored.filter(factored["session"] >= last)
    else:
        until = state["session"].gather(bars["symbol"].to_physical())
        recent = bars["session"] >= until  # the last bar known is what the first new one is measured against
        new = bars["session"] > until
        measured, tail = references(_as_traded(bars.filter(recent))).filter(new.filter(recent)), factored.filter(new)
    return (DAILY, daily.hstack(measured.get_columns())), (STATE, reached), (TAIL, tail)


def _write(connection: duckdb.DuckDBPyConnection, made: _Made) -> int:
    """Append what was computed; how many rows of indicators."""
    counts = [insert(connection, table, rows, ordered=True) for table, rows in made]
    return counts[0] if counts else 0


def _as_traded(bars: pl.DataFrame) -> pl.DataFrame:
    """What `references` reads."""
    raw = {name: f"raw_{name}" for name in ("high", "low", "close", "volume")}
    return bars.select("symbol", "session", "session_no", "exchange", "value", "ref_price", **raw)


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> Iterator[None]:
    """The frame is the table `analytics_work` meanwhile."""
    connection.register("analytics_work", frame)
    try:
        yield
    finally:
        connection.unregister("analytics_work")
