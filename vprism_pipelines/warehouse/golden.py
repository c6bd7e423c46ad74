"""Building what we believe from what providers said: one golden bar per symbol and session, and the trading days.

Incremental by watermark: a build looks at what it has not seen (ledger batches, findings, weights, roles) and touches
the keys in it. The result is a function of the ledger's content and the roles alone, so a rebuild from the lake gives
the same rows.
"""

from __future__ import annotations

from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.market.calendars import market_sessions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.consensus import PRIOR_RELIABILITY, vote
from vprism_pipelines.quality.row_rules import PRICES
from vprism_pipelines.tables import GOLDEN_BARS, GOLDEN_SESSIONS
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import (
    Built,
    frame,
    insert,
    mark,
    prefix,
    scalar,
    set_watermark,
    take,
    watermark,
    write_behind,
)
from vprism_pipelines.warehouse.factors import build_events, build_factors
from vprism_pipelines.warehouse.reliability import (
    MISDATED_DAYS,
    MONTH,
    bounds,
    candidates,
    measure,
    misdated,
    taking_part,
    turned,
)

__all__ = ["Built", "build_bars", "build_events", "build_factors", "build_sessions", "chosen_providers"]

STAGE = "golden.bars"
BLOCK_KEYS = 500_000  # candidates in memory at once
KEY = ("symbol", "session")
READ_BY = {
    "analytics": "symbol, session, open, high, low, close, volume, value",
    "factors": "symbol, session, close, volume, known_from",
    "market": "symbol, session, exchange, currency, price_basis",
}
"""What later stages read of every bar; another confidence changes no number."""
SHOWN = "symbol, session, flags"
"""What is read of the newest bar of a symbol alone; which of its bars changed is not asked."""


def build_bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Built:
    """Bring `golden.bars` up to the ledger and the findings on it, inside the caller's transaction."""
    since = watermark(connection, STAGE, spec)
    taking = taking_part(connection, spec)
    found = connection.execute(
        f"""SELECT provider, batch, {taking} FROM (
                SELECT provider, max(batch) AS batch FROM clean.bars_ledger WHERE {prefix(spec)} GROUP BY provider)"""
    ).fetchall()
    if not found:
        return Built(0, 0)
    newest = max(batch for _, batch, _ in found)
    providers = [str(name) for name, _, takes in found if takes]
    first = since == 0
    take(connection, "golden", spec)
    if first:
        moved = measure(connection, spec, taking, None)
    else:
        moved = _touch(connection, spec, taking, providers, since)
        connection.execute(
            "CREATE OR REPLACE TEMP TABLE former AS FROM golden.bars SEMI JOIN touched USING (symbol, session)"
        )
        connection.execute(
            "DELETE FROM golden.bars USING touched AS t"
            " WHERE golden.bars.symbol = t.symbol AND golden.bars.session = t.session"
        )
    _stand(connection, spec, taking, first=first)
    written = _insert_bars(connection, spec, several=len(providers) > 1, first=first)
    touched = written if first else int(scalar(connection, "SELECT count(*) FROM touched") or 0)
    _mark_changed(connection, spec, first=first)
    set_watermark(connection, STAGE, spec, newest)
    return Built(touched, written, {"weights changed": moved})


def _touch(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: str, providers: list[str], since: int
) -> int:
    """Make the table `touched` of keys to decide again, weights included. Returns how many weights changed."""
    other = ", ".join(f"'{name}'" for name in turned(connection, spec, providers)) or "NULL"
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE touched AS
            SELECT symbol, session FROM clean.bars_ledger
            WHERE {prefix(spec)} AND (batch > {since} OR provider IN ({other}))
            UNION
            SELECT symbol, session FROM clean.bars_ledger JOIN work USING (symbol)
            WHERE {prefix(spec)} AND session >= from_session"""
    )
    # Whether a bar stands under a wrong date shows in what others say of the days after it.
    if len(providers) > 1:
        connection.execute(
            f"""INSERT INTO touched SELECT DISTINCT l.symbol, l.session FROM clean.bars_ledger AS l
                SEMI JOIN (SELECT symbol, (session - days)::DATE AS session
                           FROM touched, (SELECT unnest(range(1, {MISDATED_DAYS + 1}))::INTEGER AS days))
                    USING (symbol, session)
                ANTI JOIN touched USING (symbol, session) WHERE {prefix(spec, "l.symbol")}"""
        )
    moved = measure(connection, spec, taking, f"SELECT DISTINCT {MONTH} AS month FROM touched")
    if moved:
        connection.execute(
            f"""CREATE OR REPLACE TEMP TABLE touched AS
                FROM touched UNION
                SELECT symbol, session FROM clean.bars_ledger AS l
                SEMI JOIN moved AS m ON l.provider = m.provider AND {MONTH} = m.month WHERE {prefix(spec)}"""
        )
    return moved


def _stand(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: str, *, first: bool) -> None:
    """Make the view `candidates`: the bars to decide among, their weights, and, not `deciding`, the days after them."""
    scope, deciding = "", "true"
    if not first:
        days = bounds(connection, f"SELECT min(session), max(session) + {MISDATED_DAYS} FROM touched")
        deciding = "(symbol, session) IN (FROM touched)"
        scope = f"""SEMI JOIN (SELECT symbol, (session + days)::DATE AS session
                               FROM touched, (SELECT unnest(range({MISDATED_DAYS + 1}))::INTEGER AS days))
                        USING (symbol, session)
                    WHERE {days}"""
    connection.execute(
        f"""CREATE OR REPLACE TEMP VIEW candidates AS
            SELECT c.*, coalesce(r.value, {PRIOR_RELIABILITY})::DOUBLE AS weight, {deciding} AS deciding
            FROM ({candidates(spec, taking, scope)}) AS c
            LEFT JOIN (SELECT provider, month, value FROM quality.reliability
                       WHERE market = '{spec.code}' AND known_to IS NULL) AS r
                ON r.provider = c.provider AND r.month = {MONTH}"""
    )


def _insert_bars(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, several: bool, first: bool) -> int:
    """Decide every key of `candidates`, whole symbols at a time: bounds memory, and each candidate is read once, in
    the order in which golden keeps it.
    """
    with connection.cursor() as aside:
        return write_behind(
            (
                frame(connection, f"SELECT * FROM candidates WHERE {span}")
                for span in _spans(connection, spec, first=first)
            ),
            lambda rows: _decided(aside, spec, rows, several=several),
            lambda decided: insert(connection, GOLDEN_BARS, decided, ordered=True),
        )


def _decided(
    aside: duckdb.DuckDBPyConnection, spec: MarketSpec, candidates: pl.DataFrame, *, several: bool
) -> pl.DataFrame:
    """Bars that one provider has alone stand as they are, the others are voted on; sorted.

    Args:
        aside: A connection that nobody else uses meanwhile.
        spec: Market.
        candidates: Of whole symbols.
        several: More than one provider takes part.
    """
    rows = candidates.sort(*KEY, "provider")
    deciding = rows.filter("deciding").drop("deciding").with_row_index("place")
    before, after = (pl.all_horizontal(pl.col(name) == pl.col(name).shift(by) for name in KEY) for by in (1, -1))
    contested = deciding.select((before | after).fill_null(value=False)).to_series()
    alone = deciding.filter(~contested)
    if several:
        alone = alone.join(_misdated(aside, alone, rows), on=[*KEY, "provider"], how="anti")
    stand = alone.with_columns(n_sources=pl.lit(1), confidence="weight").drop("doubt", "weight")
    rank = {provider: spec.rank(provider) for provider in deciding["provider"].unique()}
    voted = [vote(deciding.filter(contested), rank).select(stand.columns)] if contested.any() else []
    decided = pl.concat([stand, *voted], how="vertical_relaxed").rename({"provider": "chosen_provider"})
    return decided.sort("place")


def _misdated(aside: duckdb.DuckDBPyConnection, alone: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Keys of bars that stand under a wrong date: another provider has them a few days later."""
    sources = rows.select("symbol", "provider").unique().group_by("symbol").len()
    shared = pl.col("symbol").is_in(sources.filter(pl.col("len") > 1)["symbol"].implode())
    traded = (pl.col("volume") > 0) & shared
    alone, others = (  # noqa: RUF059 - DuckDB reads them by their names
        bars.filter(traded).select(*KEY, "provider", *PRICES, "volume") for bars in (alone, rows)
    )
    # Not registered: a transaction would hold every registered frame in memory until it ends.
    return pl.DataFrame(aside.execute(misdated("alone", "others")).to_arrow_table())


def _spans(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, first: bool) -> list[str]:
    """Conditions that part the symbols to decide into groups of about `BLOCK_KEYS` candidates."""
    deciding = f"clean.bars_ledger WHERE {prefix(spec)}" if first else "touched"
    symbols = frame(connection, f"SELECT symbol, count(*) AS keys FROM {deciding} GROUP BY symbol ORDER BY symbol")
    groups = symbols.group_by((pl.col("keys").cum_sum() - 1) // BLOCK_KEYS, maintain_order=True)
    ends = groups.agg(first=pl.col("symbol").first(), last=pl.col("symbol").last())
    return [f"symbol BETWEEN '{start}' AND '{end}'" for start, end in ends.select("first", "last").iter_rows()]


def _mark_changed(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, *, first: bool) -> None:
    """Leave later stages the symbols whose bars differ from what stood before in what each reads of them."""

    def moved(terms: str) -> str:
        if first:
            return f"SELECT {terms} FROM golden.bars WHERE {prefix(spec)}"
        now = "(FROM golden.bars SEMI JOIN touched USING (symbol, session))"
        return f"""((SELECT {terms} FROM {now} EXCEPT SELECT {terms} FROM former)
                    UNION ALL (SELECT {terms} FROM former EXCEPT SELECT {terms} FROM {now}))"""

    for stage, terms in READ_BY.items():
        mark(connection, stage, f"SELECT symbol, min(session) AS from_session FROM ({moved(terms)}) GROUP BY symbol")
    if not first:
        shown = f"golden.bars SEMI JOIN {moved(SHOWN)} USING (symbol)"
        newest = f"SELECT symbol, max(session) AS from_session FROM {shown} WHERE {TRADED} GROUP BY symbol"
        mark(connection, "market", newest)


def chosen_providers(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> list[str]:
    """Providers whose bars stand in golden."""
    found = connection.execute(f"SELECT DISTINCT chosen_provider FROM golden.bars WHERE {prefix(spec)} ORDER BY 1")
    return [str(row[0]) for row in found.fetchall()]


def build_sessions(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, until: date) -> Built:
    """Replace the market's rows of `golden.sessions`, from its first session to `until`."""
    days = market_sessions(spec, spec.first_session, until)
    connection.execute("DELETE FROM golden.sessions WHERE market = ?", [spec.code])
    return Built(days.height, insert(connection, GOLDEN_SESSIONS, days))
