"""Building analytics from golden bars: one new session costs one session, and the result equals a full rebuild.

Indicators run on traded bars, on the hfq basis, which only ever grows at its end. A symbol whose past changed is
computed again from its first bar; any other continues from its stored state.
"""

from __future__ import annotations

from collections.abc import Iterator

import duckdb
import polars as pl

from vprism_pipelines.market import indicators
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.warehouse.golden import Built
from vprism_pipelines.warehouse.indicator_tables import DAILY, STATE
from vprism_pipelines.warehouse.ingest import prefix

# Rows of bars held in memory at once during a full computation.
BLOCK_ROWS = 500_000

# Columns the indicators read, on the basis each of them needs.
_BARS = """
    SELECT b.symbol, b.session, s.session_no,
           b.open * k AS open, b.high * k AS high, b.low * k AS low, b.close * k AS close,
           b.volume / v AS volume, b.close AS raw_close, b.high AS raw_high, b.low AS raw_low, b.value,
           b.high * v AS split_high, b.low * v AS split_low, b.close * v AS split_close
    FROM (
        SELECT g.*, coalesce(f.hfq, 1.0) AS k, coalesce(f.shares, 1.0) AS v
        FROM ({bars}) AS g
        ASOF LEFT JOIN golden.factors_cumulative AS f
            ON g.symbol = f.symbol AND g.session >= f.effective_session
    ) AS b
    -- Exchanges of a market may be closed on different days: their ordinals cannot be mixed, the market's can.
    JOIN (SELECT session, (row_number() OVER (ORDER BY session))::INTEGER AS session_no
          FROM (SELECT DISTINCT session FROM golden.sessions WHERE market = $market)) AS s USING (session)
    ORDER BY b.symbol, b.session
"""
_TRADED = "(volume IS NULL OR volume > 0 OR symbol LIKE '%:INDEX:%')"


def build_daily(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `analytics.daily` up to golden, inside the caller's transaction."""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE work AS
            SELECT d.symbol, min(d.from_session) AS from_session,
                   coalesce(min(d.from_session) > any_value(s.session), false) AS resumes
            FROM ops.dirty AS d LEFT JOIN analytics.state AS s ON d.symbol = s.symbol
            WHERE d.stage = 'analytics' AND {prefix(spec, "d.symbol")}
            GROUP BY d.symbol"""
    )
    # Every beta rests on the benchmark: what was computed before one of its bars came, or changed, is computed anew.
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE resting AS
            SELECT symbol, session FROM analytics.state WHERE {prefix(spec)}
            AND session >= (SELECT from_session FROM work WHERE symbol = $benchmark)""",
        {"benchmark": spec.benchmark},
    )
    connection.execute("UPDATE work SET resumes = false WHERE symbol IN (SELECT symbol FROM resting)")
    connection.execute("INSERT INTO work SELECT symbol, session, false FROM resting ANTI JOIN work USING (symbol)")
    symbols = connection.execute("SELECT symbol, resumes FROM work ORDER BY symbol").fetchall()
    if not symbols:
        return Built(0, 0, {})
    restarted = [symbol for symbol, resumes in symbols if not resumes]
    resumed = [symbol for symbol, resumes in symbols if resumes]
    connection.execute("DELETE FROM analytics.daily WHERE symbol IN (SELECT symbol FROM work WHERE NOT resumes)")
    connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM work WHERE NOT resumes)")
    written = sum(_full(connection, spec, block) for block in _blocks(connection, restarted))
    written += _tail(connection, spec) if resumed else 0
    connection.execute("DELETE FROM ops.dirty WHERE stage = 'analytics' AND symbol IN (SELECT symbol FROM work)")
    return Built(len(symbols), written, {"restarted": len(restarted), "resumed": len(resumed)})


def _blocks(connection: duckdb.DuckDBPyConnection, symbols: list[str]) -> Iterator[list[str]]:
    """Symbols in groups of at most `BLOCK_ROWS` bars."""
    if not symbols:
        return
    sizes = connection.execute(
        "SELECT symbol, count(*) FROM golden.bars WHERE symbol IN (SELECT symbol FROM work WHERE NOT resumes)"
        " GROUP BY symbol ORDER BY symbol"
    ).fetchall()
    block: list[str] = []
    rows = 0
    for symbol, size in sizes:
        if block and rows + size > BLOCK_ROWS:
            yield block
            block, rows = [], 0
        block.append(symbol)
        rows += size
    if block:
        yield block


def _full(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, symbols: list[str]) -> int:
    connection.register("block", pl.DataFrame({"symbol": symbols}))
    try:
        bars = _bars(connection, spec, f"SELECT * FROM golden.bars SEMI JOIN block USING (symbol) WHERE {_TRADED}")
    finally:
        connection.unregister("block")
    return _store(connection, spec, bars, None)


def _tail(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """Symbols that only grew: their last bars for the windows, their state for the recursions."""
    state = pl.DataFrame(
        connection.execute(
            "SELECT s.* FROM analytics.state AS s WHERE symbol IN (SELECT symbol FROM work WHERE resumes)"
            " ORDER BY symbol"
        ).to_arrow_table()
    )
    recent = f"""
        SELECT g.* FROM golden.bars AS g JOIN work USING (symbol) WHERE resumes AND {_TRADED}
        QUALIFY count(*) FILTER (g.session < work.from_session)
            OVER (PARTITION BY symbol ORDER BY session DESC ROWS UNBOUNDED PRECEDING) <= {indicators.LOOKBACK}
    """
    bars = _bars(connection, spec, recent)
    connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM work WHERE resumes)")
    return _store(connection, spec, bars, state)


def _bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, source: str) -> pl.DataFrame:
    table = connection.execute(_BARS.format(bars=source), {"market": spec.code}).to_arrow_table()
    return pl.DataFrame(table)


def _store(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, bars: pl.DataFrame, state: pl.DataFrame | None
) -> int:
    if bars.is_empty():
        return 0
    daily, reached = indicators.compute(
        bars, state, annualisation=spec.annualisation, benchmark=_benchmark(connection, spec)
    )
    for table, frame in ((DAILY, daily), (STATE, reached)):
        connection.register("rows", table.conform(frame))
        connection.execute(f"INSERT INTO {table.full_name} BY NAME SELECT * FROM rows")
        connection.unregister("rows")
    return daily.height


def _benchmark(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame | None:
    """Closes of the market's benchmark on the hfq basis, if golden has it."""
    table = connection.execute(
        """SELECT b.session, b.close * coalesce(f.hfq, 1.0) AS close FROM golden.bars AS b
           ASOF LEFT JOIN golden.factors_cumulative AS f
               ON b.symbol = f.symbol AND b.session >= f.effective_session
           WHERE b.symbol = ? ORDER BY b.session""",
        [spec.benchmark],
    ).to_arrow_table()
    return pl.DataFrame(table) if table.num_rows else None
