"""Building the figures that companies are valued with from the ledger of all that was reported.

A symbol of which anything new was read is looked at again as a whole, and every symbol where figures are chosen in
another way than those in the table were; of its steps those stand that come before the first that differs.
"""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.valuation import fingerprint, items, known_figures
from vprism_pipelines.warehouse.building import frame, insert, prefix, scalar, set_watermark, watermark
from vprism_pipelines.warehouse.valuation_tables import FIGURES

_STAGE = "analytics.figures"  # watermark: batches of figures that are in the table
BLOCK = 500  # symbols in memory at once


def build_figures(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> int:
    """Bring `analytics.figures` up to the ledger, inside the caller's transaction; how many steps it wrote.

    What changed, and since when, stands in the temporary table `refigured` (symbol, since) until the next call.
    """
    connection.execute("CREATE OR REPLACE TEMP TABLE refigured (symbol VARCHAR, since DATE)")
    choice = fingerprint(spec)
    seen = watermark(connection, _STAGE, spec, rules=choice)
    newest = scalar(connection, f"SELECT max(batch) FROM clean.fundamentals_ledger WHERE {prefix(spec)}") or 0
    if newest <= seen:
        return 0
    told = frame(
        connection,
        f"""SELECT DISTINCT symbol FROM clean.fundamentals_ledger
            WHERE {prefix(spec)} AND batch > {seen} ORDER BY symbol""",
    )
    written = sum(_build(connection, spec, block) for block in told.iter_slices(BLOCK))
    set_watermark(connection, _STAGE, spec, newest, rules=choice)
    return written


def _build(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, symbols: pl.DataFrame) -> int:
    """Bring the steps of some symbols up to date."""
    among = "symbol BETWEEN $first AND $last AND symbol IN (SELECT unnest($symbols))"
    names = symbols["symbol"].to_list()
    bounds = {"first": names[0], "last": names[-1], "symbols": names}
    # Spelled out they are looked for while the ledger is read, before its versions are compared.
    wanted = ", ".join(f"'{item}'" for item in items())
    figures = frame(
        connection,
        f"""SELECT symbol, provider, lower(item) AS item, period_end, period_kind, statement, value, currency,
                   visible_from, known_from
            FROM clean.fundamentals_visible
            WHERE {among} AND lower(item) IN ({wanted})""",
        bounds,
    )
    steps = FIGURES.conform(known_figures(figures, spec).with_columns(currency=pl.lit(spec.currency)))
    connection.register("figures_now", steps)
    columns = ", ".join(FIGURES.names)
    now, standing = f"SELECT {columns} FROM figures_now", f"SELECT {columns} FROM {FIGURES.full_name} WHERE {among}"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE figures_changed AS
            SELECT symbol, min(since) AS since
            FROM (({now} EXCEPT {standing}) UNION ALL ({standing} EXCEPT {now})) GROUP BY symbol""",
        bounds,
    )
    new = frame(
        connection,
        "SELECT n.* FROM figures_now AS n JOIN figures_changed AS c ON n.symbol = c.symbol AND n.since >= c.since",
    )
    connection.unregister("figures_now")
    connection.execute(
        f"""DELETE FROM {FIGURES.full_name} AS f USING figures_changed AS c
            WHERE f.symbol = c.symbol AND f.since >= c.since"""
    )
    connection.execute("INSERT INTO refigured FROM figures_changed")
    return insert(connection, FIGURES, new)
