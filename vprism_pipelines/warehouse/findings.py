"""Examining what each provider said before it may stand for golden: findings of the window checks, kept per bar.

Incremental by watermark: bars in ledger batches that have not been seen are examined, with as many before them as the
checks look back on; a symbol whose corporate actions changed is examined whole. The result is a function of the
ledger's content alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial

import duckdb
import polars as pl

from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.blocks import blocks
from vprism_pipelines.quality.order import in_order
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS
from vprism_pipelines.quality.windows import AFTER, CONTEXT, examine
from vprism_pipelines.tables import FINDINGS
from vprism_pipelines.tables.golden import TRADED
from vprism_pipelines.warehouse.building import (
    Built,
    frame,
    insert,
    mark,
    prefix,
    scalar,
    set_watermark,
    side_by_side,
    take,
    watermark,
)

__all__ = ["BARS", "JUDGEABLE", "Examined", "build_findings", "judge", "set_aside"]

STAGE = "quality.findings"
BLOCK_ROWS = 500_000  # bars in memory at once
NEAR_DAYS = 640
"""Calendar days in which a stock that trades every session has all the bars that the checks look back on."""

BARS = f"""symbol, session, provider, exchange, open, high, low, close, volume, value, {TRADED} AS traded"""
"""What `judge` reads, as SQL over `clean.traded_bars` or `clean.traded_bars_as_of`."""

JUDGEABLE = "NOT provisional AND price_basis = 'raw'"
"""Rules and statistics are about prices as traded, and about sessions that are over."""

# A mere placeholder is a fact of the bar that its flags already state.
_TELLING = [name for name in WINDOW_CHECKS if name != "placeholder"]
BLOCKED = {
    "provider": pl.String(),
    "check": pl.String(),
    "symbol": pl.String(),
    "session": pl.Date(),
    "measure": pl.Float64(),
    "evidence": pl.String(),
}
_BLOCKS = ["symbol", "session", "volume", "turnover", "vwap_bound", "stale_copy", "ticket", "jump"]


@dataclass(frozen=True, slots=True)
class Examined:
    """What an examination found.

    Attributes:
        built: Bars looked at, findings written.
        symbols: Symbols looked at, once per provider.
        counts: check, provider, bars (examined), found; one row per check and provider.
        blocked: provider and the columns of `quality.blocks.blocks`: what must not be published as it is.
    """

    built: Built
    symbols: int
    counts: pl.DataFrame
    blocked: pl.DataFrame


def judge(
    bars: pl.DataFrame,
    events: pl.DataFrame,
    sessions: pl.DataFrame,
    spec: MarketSpec,
    thresholds: Thresholds = DEFAULTS,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Run the window checks over one provider's bars as traded.

    Args:
        bars: Columns of `BARS` of whole symbols, one row per symbol and session.
        events: Merged corporate actions, columns of `tables.EVENTS`.
        sessions: session: the market's sessions.
        spec: Market.
        thresholds: In force.

    Returns:
        Rows of `tables.FINDINGS` for the bars with something to say, and what `quality.windows.examine` says of all.
    """
    own = events.join(bars.select("symbol").unique(), on="symbol", how="semi")
    # The reference is the provider's own previous close through the exchange's formula: its errors are its own.
    priced = factor_sets(own, bars.select("symbol", "session", "close", "traded"), spec.currency).steps
    actions = own.select("symbol", "ex_date").unique()
    actions = actions.join(priced.select("symbol", "ex_date", "ref_price"), on=["symbol", "ex_date"], how="left")
    examined = examine(bars, actions, sessions, spec, thresholds)
    telling = examined.filter(pl.any_horizontal(_TELLING))
    checks = pl.concat_list(pl.when(name).then(pl.lit(name)) for name in WINDOW_CHECKS).list.drop_nulls()
    found = telling.with_columns(checks=checks, quarantined=pl.col("reasons").list.len() > 0)
    return FINDINGS.conform(found), examined


def build_findings(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> Examined:
    """Bring `quality.findings` up to the ledger and the corporate actions, inside the caller's transaction.

    Other thresholds hold for what is examined from now on; `vprism rebuild` examines everything again.
    """
    since = watermark(connection, STAGE, spec)
    newest = scalar(connection, f"SELECT max(batch) FROM clean.bars_ledger WHERE {prefix(spec)}") or 0
    take(connection, "findings", spec)
    _find_work(connection, spec, since)
    sessions = frame(connection, "SELECT DISTINCT session FROM golden.sessions WHERE market = $m", {"m": spec.code})
    found, reached, counts = [], [], []
    compact: dict[str, list[pl.DataFrame]] = {}
    for part in side_by_side(partial(_part, sessions, spec, thresholds), _series(connection)):
        found.append(part.findings)
        reached.append(part.reached)
        counts.append(part.counts)
        compact.setdefault(part.provider, []).append(part.compact)
    written = _replace(connection, found, reached)
    set_watermark(connection, STAGE, spec, max(since, newest))
    return _examined(written, counts, compact)


@dataclass(frozen=True, slots=True)
class _Part:
    """What was found in some series of one provider: findings, since when each symbol was judged, how often each check
    fired, and what may keep the bars from being published.
    """

    provider: str
    findings: pl.DataFrame
    reached: pl.DataFrame
    counts: pl.DataFrame
    compact: pl.DataFrame


def _series(connection: duckdb.DuckDBPyConnection) -> Iterator[tuple[str, pl.DataFrame, pl.DataFrame]]:
    """What there is to examine, in blocks: provider, its bars, and the events of their symbols."""
    for block in _blocks(connection):
        events = _events(connection, block)
        for (provider,), own in _bars(connection, block).group_by("provider", maintain_order=True):
            yield str(provider), own, events


def _part(
    sessions: pl.DataFrame,
    spec: MarketSpec,
    thresholds: Thresholds,
    series: tuple[str, pl.DataFrame, pl.DataFrame],
) -> _Part:
    """Judge a block of one provider's series."""
    provider, own, events = series
    findings, examined = judge(_within_reach(own), events, sessions, spec, thresholds)
    beyond = examined.select("symbol", "session", "back").filter(pl.col("back") > AFTER)
    judged = examined.select("symbol", "session", "back", *WINDOW_CHECKS).filter(pl.col("back") <= AFTER)
    totals = judged.select(pl.col(name).sum() for name in WINDOW_CHECKS).unpivot(
        variable_name="check", value_name="found"
    )
    return _Part(
        provider,
        findings.join(beyond, on=["symbol", "session"], how="anti"),
        judged.group_by("symbol").agg(pl.col("session").min(), provider=pl.lit(provider)),
        totals.with_columns(provider=pl.lit(provider), bars=pl.lit(judged.height)),
        examined.select(_BLOCKS),
    )


def _find_work(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, since: int) -> None:
    """Make the table `examining`: symbol, provider, since which session its bars or events changed, from which one on
    its bars have to be read for that, and how many these are.

    Of a source that rewrites its history any bar may now be another version after anything but new sessions at the
    end and corrections, or after a change of events; golden has to look at all of these too.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE rewritten AS
            WITH adjusted AS (SELECT symbol, provider, session, change_class, known_to, batch FROM clean.bars_ledger
                              WHERE {prefix(spec)} AND price_basis = 'adjusted_by_source'),
                 ends AS (SELECT symbol, provider, max(session) AS last_session FROM adjusted
                          WHERE batch <= {since} GROUP BY ALL)
            SELECT symbol, min(session) AS from_session FROM adjusted WHERE symbol IN (
                SELECT symbol FROM adjusted JOIN ends USING (symbol, provider)
                WHERE batch > {since} AND (change_class = 'rebase' OR known_to IS NOT NULL
                                           OR change_class = 'new' AND session <= last_session)
                UNION SELECT symbol FROM work)
            GROUP BY symbol"""
    )
    mark(connection, "golden", "FROM rewritten")
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE examining AS
            WITH ledger AS (SELECT *, {TRADED} AS traded FROM clean.bars_ledger WHERE {prefix(spec)}),
                 everybody AS (SELECT DISTINCT symbol, provider FROM ledger),
                 changed AS (
                     SELECT symbol, provider, min(session) AS from_session FROM ledger
                     WHERE batch > {since} GROUP BY ALL
                     UNION ALL BY NAME
                     SELECT * FROM everybody JOIN (FROM work UNION ALL FROM rewritten) USING (symbol)),
                 due AS (SELECT symbol, provider, min(from_session) AS from_session FROM changed GROUP BY ALL),
                 sizes AS (
                     SELECT symbol, provider, from_session, min(session) AS first, count(*) AS bars,
                            count(*) FILTER (session >= from_session - {NEAR_DAYS}) AS near,
                            count(*) FILTER (session >= from_session - {NEAR_DAYS} AND session < from_session
                                             AND traded AND known_to IS NULL AND {JUDGEABLE}) AS behind
                     FROM ledger JOIN due USING (symbol, provider) GROUP BY ALL)
            SELECT symbol, provider, from_session,
                   CASE WHEN behind > {AFTER + CONTEXT} THEN from_session - {NEAR_DAYS} ELSE first END AS read_from,
                   CASE WHEN behind > {AFTER + CONTEXT} THEN near ELSE bars END AS bars
            FROM sizes"""
    )


def _bars(connection: duckdb.DuckDBPyConnection, block: pl.DataFrame) -> pl.DataFrame:
    """The bars to judge and more before them than the checks look back on."""
    first, last, earliest = block["symbol"].min(), block["symbol"].max(), block["read_from"].min()
    connection.register("block", block)
    try:
        # The bounds are spelled out: a join alone would bring in the whole ledger for every block.
        return frame(
            connection,
            f"""SELECT {BARS}, from_session
                FROM clean.traded_bars JOIN block USING (symbol, provider)
                WHERE {JUDGEABLE} AND session >= read_from
                  AND symbol BETWEEN $first AND $last AND session >= $earliest""",
            {"first": first, "last": last, "earliest": earliest},
        )
    finally:
        connection.unregister("block")


def _within_reach(own: pl.DataFrame) -> pl.DataFrame:
    """One provider's bars in order, as far back as the checks look; `back`: traded bars from each one to the change."""
    behind = (pl.col("traded") & (pl.col("session") < pl.col("from_session"))).cast(pl.Int64)
    return (
        in_order(own, ["symbol", "session"])
        .with_columns(back=behind.cum_sum(reverse=True).over("symbol"))
        .filter(pl.col("back") <= AFTER + CONTEXT)
        .drop("from_session")
    )


def _events(connection: duckdb.DuckDBPyConnection, block: pl.DataFrame) -> pl.DataFrame:
    connection.register("block", block)
    try:
        return frame(connection, "SELECT * FROM golden.adjustment_events SEMI JOIN block USING (symbol) ORDER BY ALL")
    finally:
        connection.unregister("block")


def _examined(written: int, counts: list[pl.DataFrame], compact: dict[str, list[pl.DataFrame]]) -> Examined:
    """The account of an examination, providers in order of name."""
    nothing = pl.DataFrame(schema={"check": pl.String, "found": pl.Int64, "provider": pl.String, "bars": pl.Int64})
    total = (
        pl.concat([nothing, *(part.cast({"found": pl.Int64, "bars": pl.Int64}) for part in counts)])
        .group_by("check", "provider")
        .agg(pl.col("bars").sum(), pl.col("found").sum())
        .sort("check", "provider")
    )
    blocked = [
        blocks(pl.concat(parts)).select(pl.lit(provider).alias("provider"), pl.all())
        for provider, parts in sorted(compact.items())
    ]
    looked_at = [part for parts in compact.values() for part in parts]
    return Examined(
        Built(sum(part.height for part in looked_at), written),
        sum(part["symbol"].n_unique() for part in looked_at),
        total,
        pl.concat([pl.DataFrame(schema=BLOCKED), *blocked]),
    )


def _blocks(connection: duckdb.DuckDBPyConnection) -> Iterator[pl.DataFrame]:
    """The series to examine, in groups of about `BLOCK_ROWS` bars."""
    due = frame(connection, "FROM examining ORDER BY symbol, provider")
    group = (pl.col("bars").cum_sum() - 1) // BLOCK_ROWS
    for _, block in due.group_by(group.alias("group"), maintain_order=True):
        yield block.drop("bars")


def _replace(connection: duckdb.DuckDBPyConnection, found: list[pl.DataFrame], reached: list[pl.DataFrame]) -> int:
    """Replace the findings on the judged bars, and leave golden the bars whose standing changed."""
    findings = pl.concat([pl.DataFrame(schema=FINDINGS.polars_schema), *found])
    spans = pl.DataFrame(schema={name: FINDINGS.polars_schema[name] for name in ("symbol", "provider", "session")})
    connection.register("found", findings)
    connection.register("reached", pl.concat([spans, *(part.select(spans.columns) for part in reached)]))
    terms = "symbol, session, provider, quarantined, bits"
    try:
        # A provider without a bar to judge has nothing to be found fault with either.
        connection.execute(
            """CREATE OR REPLACE TEMP TABLE former AS
               SELECT f.* FROM quality.findings AS f SEMI JOIN examining USING (symbol, provider)
               LEFT JOIN reached AS r ON r.symbol = f.symbol AND r.provider = f.provider
               WHERE r.session IS NULL OR f.session >= r.session"""
        )
        mark(
            connection,
            "golden",
            f"""SELECT symbol, min(session) AS from_session
                FROM ((SELECT {terms} FROM found EXCEPT SELECT {terms} FROM former)
                      UNION ALL (SELECT {terms} FROM former EXCEPT SELECT {terms} FROM found))
                GROUP BY symbol""",
        )
    finally:
        connection.unregister("found")
        connection.unregister("reached")
    connection.execute(
        """DELETE FROM quality.findings AS f USING former AS o
           WHERE f.symbol = o.symbol AND f.session = o.session AND f.provider = o.provider"""
    )
    return insert(connection, FINDINGS, findings)


def set_aside(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> pl.DataFrame:
    """Quarantined bars of a market with the checks that fired, newest session first."""
    return frame(
        connection,
        f"""SELECT f.session, f.symbol, f.provider, array_to_string(f.checks, ', ') AS checks,
                   t.open, t.high, t.low, t.close, t.volume
            FROM quality.findings AS f JOIN clean.traded_bars AS t USING (symbol, session, provider)
            WHERE f.quarantined AND {prefix(spec, "f.symbol")} ORDER BY f.session DESC, f.symbol, f.provider""",
    )
