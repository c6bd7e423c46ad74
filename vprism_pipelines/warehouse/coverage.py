"""What is there of the symbols in most trouble, session by session and month by month: the numbers behind pictures."""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.tables import SCORECARD
from vprism_pipelines.warehouse.building import frame, prefix
from vprism_pipelines.warehouse.completeness import SUSPENSION

__all__ = ["COLUMNS", "SYMBOLS", "by_session", "over_months"]

SYMBOLS, COLUMNS = 60, 120
BAD_SHARE = 0.05  # of a month's sessions missing, refused or quarantined: the month is bad
# Facts about a bar that are no doubt about it.
HARMLESS = (
    BarFlag.ZERO_VOLUME
    | BarFlag.PLACEHOLDER
    | BarFlag.RAW_RECONSTRUCTED
    | BarFlag.ADJUSTED_BY_SOURCE
    | BarFlag.OBSERVED_ON_THE_DAY
    | BarFlag.PROJECTED_SESSION
    | BarFlag.SYNTHETIC
)


def by_session(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, symbols: int = SYMBOLS, columns: int = COLUMNS
) -> pl.DataFrame:
    """State of the newest sessions of the symbols with most trouble in them, worst first.

    Args:
        connection: Where golden, findings and the scorecard are.
        spec: Market.
        symbols: At most this many.
        columns: Sessions.

    Returns:
        symbol, column (the session), state: present; flagged: a check fired, or providers disagree; bad: quarantined,
        refused or missing; unexpected: nobody expects a bar. One row for every symbol and session.
    """
    days = frame(
        connection,
        f"""SELECT DISTINCT session FROM golden.sessions
            WHERE market = '{spec.code}' AND exchange = '{next(iter(spec.exchanges))}'
              AND session <= (SELECT max(session) FROM golden.bars WHERE {prefix(spec)})
            ORDER BY session DESC LIMIT {columns + SUSPENSION}""",
    ).sort("session")
    if days.is_empty():
        return _none()
    shown = days["session"].tail(columns)[0]
    worst = _worst(connection, spec, symbols, f"AND month >= date_trunc('month', DATE '{shown}')")
    bars = frame(
        connection,
        f"""SELECT b.symbol, b.session, b.flags & ~{int(HARMLESS)} > 0 AS flagged
            FROM golden.bars AS b SEMI JOIN worst USING (symbol) WHERE session >= DATE '{days["session"][0]}'""",
    )
    refused = frame(
        connection,
        f"""SELECT DISTINCT symbol, session FROM quality.findings SEMI JOIN worst USING (symbol)
            WHERE quarantined AND session >= DATE '{shown}'
            UNION SELECT m.symbol, q.session FROM clean.quarantine AS q
            JOIN clean.symbol_map AS m ON m.raw_symbol = q.raw_symbol AND m.provider = q.provider
            WHERE q.market = '{spec.code}' AND q.dataset = 'bars' AND q.session >= DATE '{shown}'
              AND m.symbol IN (SELECT symbol FROM worst)""",
    )
    number = pl.col("number")
    return (
        worst.join(days.with_row_index("number"), how="cross")
        .join(bars, on=["symbol", "session"], how="left")
        .join(refused.with_columns(refused=True), on=["symbol", "session"], how="left")
        .with_columns(told=pl.when(pl.col("flagged").is_not_null()).then(number))
        .with_columns(
            gap=pl.col("told").backward_fill().over("symbol", order_by="session").cast(pl.Int64)
            - pl.col("told").forward_fill().over("symbol", order_by="session").cast(pl.Int64)
        )
        .filter(pl.col("session") >= shown)
        .sort("place", "session")
        .select(
            "symbol",
            column=pl.col("session").cast(pl.String),
            state=pl.when(pl.col("flagged"))
            .then(pl.lit("flagged"))
            .when(pl.col("told").is_not_null())
            .then(pl.lit("present"))
            .when(pl.col("refused").fill_null(value=False) | (pl.col("gap") <= SUSPENSION))
            .then(pl.lit("bad"))
            .otherwise(pl.lit("unexpected")),
        )
    )


def over_months(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, symbols: int = SYMBOLS, columns: int = COLUMNS
) -> pl.DataFrame:
    """The same for the whole history, by month, or by so many months that it fits; from the scorecard.

    Returns:
        symbol, column (first month, as text), state, of the provider with most good bars in each month: present: all
        expected ones are there; flagged: a check fired, it was outvoted, or less than 5 % are missing or quarantined;
        bad: more.
    """
    (span,) = frame(
        connection,
        f"""SELECT min(month) AS first, coalesce(datediff('month', min(month), max(month)), 0) + 1 AS months
            FROM {SCORECARD.full_name} WHERE {prefix(spec)}""",
    ).to_dicts()
    if span["first"] is None:
        return _none()
    width = -(-span["months"] // columns)
    _worst(connection, spec, symbols)
    return frame(
        connection,
        f"""WITH steps AS (
                SELECT w.symbol, place, (DATE '{span["first"]}' + to_months(step * {width}))::DATE AS month
                FROM worst AS w, range({-(-span["months"] // width)}) AS r(step)),
            told AS (
                SELECT symbol, DATE '{span["first"]}' + to_months(
                           (datediff('month', DATE '{span["first"]}', month) // {width} * {width})::INT) AS month,
                       sum(expected) AS expected, sum(bad) AS bad, sum(odd) AS odd
                FROM {_best(spec)} SEMI JOIN worst USING (symbol) GROUP BY ALL)
            SELECT s.symbol, strftime(s.month, '%Y-%m') AS "column",
                   CASE WHEN expected IS NULL THEN 'unexpected' WHEN bad >= {BAD_SHARE} * expected THEN 'bad'
                        WHEN bad + odd > 0 THEN 'flagged' ELSE 'present' END AS state
            FROM steps AS s LEFT JOIN told AS t ON t.symbol = s.symbol AND t.month::DATE = s.month
            ORDER BY place, s.month""",
    )


def _worst(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, symbols: int, within: str = "") -> pl.DataFrame:
    """symbol, place: those with most trouble, worst first; also as the temporary table `worst`."""
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE worst AS
            SELECT symbol, row_number() OVER (ORDER BY bad DESC, odd DESC, symbol) AS place FROM (
                SELECT symbol, sum(bad) AS bad, sum(odd) AS odd FROM {_best(spec, within)} GROUP BY symbol)
            ORDER BY place LIMIT {symbols}"""
    )
    return frame(connection, "FROM worst ORDER BY place")


def _best(spec: MarketSpec, within: str = "") -> str:
    """SQL for symbol, month, expected, bad, odd: of the provider that has most good bars in that month."""
    return f"""(SELECT symbol, month, expected, expected - bars + quarantined AS bad, flagged + outvoted AS odd
                FROM {SCORECARD.full_name} WHERE {prefix(spec)} {within}
                QUALIFY row_number() OVER (PARTITION BY symbol, month
                                           ORDER BY bars - quarantined - outvoted DESC, expected, provider) = 1)"""


def _none() -> pl.DataFrame:
    return pl.DataFrame(schema={"symbol": pl.String, "column": pl.String, "state": pl.String})
