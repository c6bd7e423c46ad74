"""Building indicators from golden bars: one new session costs one session, and the result equals a full rebuild.

Indicators run on traded bars, on the hfq basis, which only ever grows at its end. A symbol whose past changed is
computed again from its first bar; any other continues from its stored state, from as many bars as that asks for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date, timedelta

import duckdb
import numpy as np
import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.market.references import references
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.warehouse.golden import Built
from vprism_pipelines.warehouse.indicator_tables import DAILY, STATE
from vprism_pipelines.warehouse.ingest import prefix

# Rows of bars held in memory at once during a full computation.
BLOCK_ROWS = 500_000
# One scan by session serves all tails but those of the symbols that trade seldom: they reach back further than the
# others, give or take, and are read apart.
RARE_SHARE = 0.1
SLACK = timedelta(days=60)

_COLUMNS = "symbol, session, high, low, close, volume, value, exchange"
_TRADED = "(volume IS NULL OR volume > 0 OR symbol LIKE '%:INDEX:%')"


def build_daily(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `analytics.daily` up to golden, inside the caller's transaction."""
    work = _work(connection, spec)
    if work.is_empty():
        return Built(0, 0, {})
    restarted, resumed = work.filter(~pl.col("resumes")), work.filter("resumes")
    basis = _basis(connection, spec)
    written = 0
    if restarted.height:
        with _registered(connection, restarted.select("symbol")):
            connection.execute("DELETE FROM analytics.daily WHERE symbol IN (SELECT symbol FROM analytics_work)")
            connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM analytics_work)")
        for block in _blocks(connection, restarted):
            written += _store(connection, spec, basis, _whole(connection, block), None)
    if resumed.height:
        state = resumed.select(STATE.names)
        bars = _tails(connection, state)
        with _registered(connection, resumed.select("symbol")):
            connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM analytics_work)")
        written += _store(connection, spec, basis, bars, state)
    _hand_on(connection, work)
    return Built(work.height, written, {"restarted": restarted.height, "resumed": resumed.height})


# --- what there is to do ------------------------------------------------------------------------------------------


def _work(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """One row per symbol to compute: since when it changed, its state if it has one, and whether that still holds."""
    dirty = _frame(
        connection,
        f"""SELECT symbol, min(from_session) AS from_session, max(batch) AS batch FROM ops.dirty
            WHERE stage = 'analytics' AND {prefix(spec)} GROUP BY symbol""",
    )
    if dirty.is_empty():
        return dirty
    state = _frame(connection, f"SELECT * FROM analytics.state WHERE {prefix(spec)}")
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
        sizes = _frame(
            connection,
            "SELECT symbol, count(*) AS bars FROM golden.bars SEMI JOIN analytics_work USING (symbol)"
            " GROUP BY symbol ORDER BY symbol",
        )
    block = (pl.col("bars").cum_sum() - pl.col("bars")) // BLOCK_ROWS
    yield from sizes.select("symbol", block=block).partition_by("block", include_key=False, maintain_order=True)


def _whole(connection: duckdb.DuckDBPyConnection, symbols: pl.DataFrame) -> pl.DataFrame:
    """All traded bars of some symbols."""
    with _registered(connection, symbols):
        return _frame(
            connection,
            f"SELECT {_COLUMNS} FROM golden.bars SEMI JOIN analytics_work USING (symbol) WHERE {_TRADED}"
            " ORDER BY symbol, session",
        )


def _tails(connection: duckdb.DuckDBPyConnection, state: pl.DataFrame) -> pl.DataFrame:
    """Traded bars of some symbols from where their states ask for them; of most symbols a few more."""
    since: list[date] = state["since"].sort().to_list()
    common = since[int(RARE_SHARE * len(since))] - SLACK
    common, rare = max(common, since[0]), since[0] < common
    source = f"""SELECT {_COLUMNS} FROM golden.bars
                 WHERE {_TRADED} AND session >= $common AND symbol BETWEEN $first AND $last"""
    if rare:
        source += f""" UNION ALL
            SELECT {_COLUMNS} FROM golden.bars JOIN (FROM analytics_work WHERE since < $common) AS early USING (symbol)
            WHERE {_TRADED} AND session < $common AND session >= since"""
    span: dict[str, object] = {"common": common, "first": state["symbol"].min(), "last": state["symbol"].max()}
    with _registered(connection, state.select("symbol", "since")):
        bars = _frame(connection, source, span)
    # Numbered symbols sort and join several times faster than their names, and most rows are in order already.
    numbers = pl.col("symbol").cast(pl.Enum(state["symbol"].sort()), strict=False)
    bars = bars.with_columns(numbers).filter(pl.col("symbol").is_not_null())
    line = bars.select(pl.col("symbol").to_physical().cast(pl.Int64) * 2**32 + pl.col("session").to_physical())
    return bars[np.argsort(line.to_series().to_numpy(), kind="stable")]


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

    def adjust(self, bars: pl.DataFrame) -> pl.DataFrame:
        """Bars as `indicators.compute` and `references` read them; those on no session of the market are left out."""
        price, share = pl.col("hfq").fill_null(1.0), pl.col("shares").fill_null(1.0)
        numbered = bars.join(self.sessions, on="session", how="left", maintain_order="left")
        factors = self.factors.with_columns(pl.col("symbol").cast(bars.schema["symbol"], strict=False))
        return (
            numbered.filter(pl.col("session_no").is_not_null())
            .join_asof(factors.drop_nulls("symbol"), on="session", by="symbol", coalesce=False, check_sortedness=False)
            .select(
                "symbol",
                "session",
                "session_no",
                "exchange",
                "value",
                *(pl.col(name).alias(f"raw_{name}") for name in ("high", "low", "close", "volume")),
                *((pl.col(name) * share).alias(f"split_{name}") for name in ("high", "low", "close")),
                *(pl.col(name) * price for name in ("high", "low", "close")),
                volume=pl.col("volume") / share,
                ref_price=pl.when(pl.col("session_right") == pl.col("session")).then("ref_price"),
            )
        )


def _basis(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> _Basis:
    sessions = _frame(
        connection,
        "SELECT session, (row_number() OVER (ORDER BY session))::INTEGER AS session_no"
        " FROM (SELECT DISTINCT session FROM golden.sessions WHERE market = $market)",
        {"market": spec.code},
    )
    factors = _frame(
        connection,
        f"""SELECT symbol, effective_session AS session, arg_max(hfq, ex_date) AS hfq,
                   arg_max(shares, ex_date) AS shares, arg_max(ref_price, ex_date) AS ref_price
            FROM golden.factor_steps WHERE status = 'applied' AND {prefix(spec)}
            GROUP BY ALL ORDER BY session, symbol""",
    )
    basis = _Basis(sessions, factors, None)
    closes = _frame(
        connection,
        f"SELECT {_COLUMNS} FROM golden.bars WHERE symbol = $symbol ORDER BY session",
        {"symbol": spec.benchmark},
    )
    if closes.is_empty():
        return basis
    return _Basis(sessions, factors, basis.adjust(closes).select("session", "close"))


# --- writing --------------------------------------------------------------------------------------------------------


def _store(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    basis: _Basis,
    bars: pl.DataFrame,
    state: pl.DataFrame | None,
) -> int:
    """Compute the bars after each symbol's session in `state` and write them, and the states they lead to."""
    if bars.is_empty():
        return 0
    bars = basis.adjust(bars)
    daily, reached = indicators.compute(bars, state, annualisation=spec.annualisation, benchmark=basis.benchmark)
    daily = daily.hstack(_references(bars, state).get_columns())
    for table, frame in ((DAILY, daily), (STATE, reached)):
        with _registered(connection, table.conform(frame)):
            connection.execute(f"INSERT INTO {table.full_name} BY NAME SELECT * FROM analytics_work")
    return daily.height


def _references(bars: pl.DataFrame, state: pl.DataFrame | None) -> pl.DataFrame:
    """The columns of `market.references` for the bars after each symbol's session in `state`."""
    raw = {name: f"raw_{name}" for name in ("high", "low", "close", "volume")}
    columns = ["symbol", "session", "session_no", "exchange", "value", "ref_price"]
    if state is None:
        return references(bars.select(*columns, **raw))
    known = bars.select(pl.col("symbol").cast(pl.String)).join(
        state.select("symbol", "session"), on="symbol", how="left", maintain_order="left"
    )
    recent = bars["session"] >= known["session"]  # the last bar known is what the first new one is measured against
    new = (bars["session"] > known["session"]).filter(recent)
    return references(bars.filter(recent).select(*columns, **raw)).filter(new)


@contextmanager
def _registered(connection: duckdb.DuckDBPyConnection, frame: pl.DataFrame) -> Iterator[None]:
    """The frame is the table `analytics_work` meanwhile."""
    connection.register("analytics_work", frame)
    try:
        yield
    finally:
        connection.unregister("analytics_work")


def _frame(
    connection: duckdb.DuckDBPyConnection, sql: str, parameters: dict[str, object] | None = None
) -> pl.DataFrame:
    return pl.DataFrame(connection.execute(sql, parameters or {}).to_arrow_table())
