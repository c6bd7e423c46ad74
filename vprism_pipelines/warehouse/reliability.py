"""The track record of each provider by month, and the weight of its vote: measured from the ledger, in versions."""

from __future__ import annotations

from collections.abc import Collection

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.reliability import outvoted, weights
from vprism_pipelines.tables import RELIABILITY, TRACK_RECORD
from vprism_pipelines.warehouse.building import changed, frame, insert, prefix, scalar

__all__ = ["MISDATED_DAYS", "MONTH", "bounds", "candidates", "measure", "misdated", "taking_part", "turned"]

MISDATED_DAYS = 4  # a day, or a weekend and a day
MONTH = "date_trunc('month', session)::DATE"


def taking_part(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> str:
    """SQL for "a provider whose word counts": primary by its last role, or by default, which no name@version is."""
    roles = connection.execute(
        "SELECT provider, role FROM ops.roles_as_of('infinity'::TIMESTAMPTZ) WHERE market = ? ORDER BY provider",
        [spec.code],
    ).fetchall()
    quoted = {"'" + str(provider).replace("'", "''") + "'": role == "primary" for provider, role in roles}
    promoted = ", ".join(name for name, primary in quoted.items() if primary) or "NULL"
    sidelined = "".join(f" AND provider <> {name}" for name, primary in quoted.items() if not primary)
    return f"(NOT contains(provider, '@') OR coalesce(provider IN ({promoted}), false)){sidelined}"


def turned(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: Collection[str]) -> list[str]:
    """Of the providers those that take part now and did not when golden was built last, or the other way round."""
    rows = connection.execute(
        "SELECT DISTINCT provider FROM quality.track_record WHERE market = $market", {"market": spec.code}
    ).fetchall()
    return sorted({str(provider) for (provider,) in rows} ^ {*taking})


def candidates(spec: MarketSpec, taking: str, scope: str = "", *, quarantined: bool = False) -> str:
    """SQL for the bars that stand for golden: as traded, final, of providers that take part, not quarantined.

    Args:
        spec: Market.
        taking: From `taking_part`.
        scope: Join that narrows them, as in `SEMI JOIN touched USING (symbol, session)`.
        quarantined: Quarantined ones as well, told by the column `quarantined`.
    """
    kept = "" if quarantined else "AND quarantined IS NOT true"
    return f"""
        SELECT symbol, session, provider, open, high, low, close, volume, value, currency, exchange, price_basis,
               flags | coalesce(bits, 0) AS flags, coalesce(bits, 0) AS doubt, known_from
               {", coalesce(quarantined, false) AS quarantined" if quarantined else ""}
        FROM (FROM clean.traded_bars {scope}) AS traded_bars
        LEFT JOIN (SELECT symbol, session, provider, bits, quarantined FROM quality.findings) AS findings
            USING (symbol, session, provider)
        WHERE {prefix(spec)} AND NOT provisional AND {taking} {kept}"""


def misdated(alone: str, others: str) -> str:
    """SQL for bars under a wrong date: symbol, session, provider.

    A bar that one provider has alone, and that another gives whole, volume included, a few days later, when the first
    one says something else: it read the date in the wrong zone.

    Args:
        alone: Relation of bars that one provider has alone.
        others: Relation of all bars of these symbols up to `MISDATED_DAYS` later.
    """
    same = " AND ".join(f"a.{name} = o.{name}" for name in ("symbol", "open", "high", "low", "close", "volume"))
    later = f"o.session > a.session AND o.session <= a.session + {MISDATED_DAYS}"
    repeated = "p.symbol = a.symbol AND p.session = o.session AND p.provider = a.provider AND p.close = a.close"
    return f"""
        SELECT DISTINCT a.symbol, a.session, a.provider
        FROM {alone} AS a JOIN {others} AS o ON {same} AND a.provider <> o.provider AND {later}
        LEFT JOIN {others} AS p ON {repeated} AND p.volume = a.volume
        WHERE a.volume > 0 AND p.symbol IS NULL"""


def measure(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: str, months: str | None) -> int:
    """Bring the track record and the weights up to the ledger, inside the caller's transaction.

    Args:
        connection: Open for writing, in a transaction.
        spec: Market.
        taking: From `taking_part`.
        months: Query of the months whose bars may have changed; None: all.

    Returns:
        Weights that changed; the temporary table `moved` (provider, month) names them.
    """
    within = ""
    if months is not None:
        connection.execute(f"CREATE OR REPLACE TEMP TABLE months AS SELECT DISTINCT month FROM ({months})")
        days = bounds(connection, "SELECT min(month), (max(month) + INTERVAL 1 MONTH)::DATE FROM months")
        within = f"WHERE {days} AND {MONTH} IN (SELECT month FROM months)"
    counted = _counted(connection, spec, taking, within)
    standing = "" if months is None else "AND month NOT IN (SELECT month FROM months)"
    kept = frame(
        connection,
        f"SELECT * EXCLUDE (rejected, market) REPLACE (bars - rejected AS bars) FROM quality.track_record"
        f" WHERE market = $market AND {taking} {standing if months is not None else 'AND false'}",
        {"market": spec.code},
    )
    rejected = frame(
        connection,
        f"""SELECT provider, {MONTH} AS month, count(DISTINCT (raw_symbol, session)) AS rejected,
                   max(fetched_at) AS rejected_at
            FROM clean.quarantine WHERE market = $market AND dataset = 'bars' AND session IS NOT NULL AND {taking}
            GROUP BY ALL""",
        {"market": spec.code},
    )
    # A rejected row's date may be nonsense: it counts in months of which the provider gave bars that are none.
    record = (
        pl.concat([counted.select(kept.columns), kept])
        .join(rejected, on=["provider", "month"], how="left")
        .with_columns(
            pl.col("rejected").fill_null(0),
            market=pl.lit(spec.code),
            known_from=pl.max_horizontal("known_from", "rejected_at").max().over("month"),
        )
        .with_columns(bars=pl.col("bars") + pl.col("rejected"))
    )
    connection.execute("DELETE FROM quality.track_record WHERE market = ?", [spec.code])
    insert(connection, TRACK_RECORD, record)
    faulty = pl.col("rejected") + pl.col("quarantined") + pl.col("outvoted")
    return _store(connection, spec, weights(record.select("provider", "month", "bars", "known_from", faulty=faulty)))


def bounds(connection: duckdb.DuckDBPyConnection, span: str) -> str:
    """SQL for "sessions between these dates", spelled out: a join alone would bring in the whole ledger.

    Args:
        connection: Open.
        span: Query of the first and the last date; nulls: no session.
    """
    first, last = connection.execute(span).fetchone() or (None, None)
    return f"session BETWEEN DATE '{first}' AND DATE '{last}'" if first else "false"


def _counted(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, taking: str, within: str) -> pl.DataFrame:
    """provider, month, bars, quarantined, outvoted, known_from of the bars within some months."""
    standing = candidates(spec, taking, within, quarantined=True)
    counts = frame(
        connection,
        f"""SELECT provider, {MONTH} AS month, count(*) AS bars, count(*) FILTER (quarantined) AS quarantined,
                   max(known_from) AS known_from FROM ({standing}) GROUP BY ALL""",
    )
    if counts["provider"].n_unique() < 2:
        return counts.with_columns(outvoted=0.0)
    disputed = frame(
        connection,
        f"""WITH standing AS ({candidates(spec, taking, within)}),
                 shared AS (SELECT symbol FROM standing GROUP BY symbol HAVING min(provider) <> max(provider)),
                 keys AS (SELECT symbol, session FROM standing SEMI JOIN shared USING (symbol) GROUP BY ALL
                          HAVING min(close) <> max(close))
            SELECT * FROM standing SEMI JOIN keys USING (symbol, session)""",
    )
    against = (
        outvoted(disputed)
        .group_by("provider", month=pl.col("session").dt.truncate("1mo"))
        .agg(outvoted=pl.col("against").sort().sum())
    )
    return counts.join(against, on=["provider", "month"], how="left").with_columns(pl.col("outvoted").fill_null(0.0))


def _store(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, measured: pl.DataFrame) -> int:
    """Open a version of each weight that changed, and close the one before."""
    now = measured.with_columns(market=pl.lit(spec.code), known_to=pl.lit(None, dtype=pl.Datetime("us", "UTC")))
    connection.register("measured", RELIABILITY.conform(now))
    try:
        connection.execute(
            """CREATE OR REPLACE TEMP TABLE moved AS
               SELECT m.* REPLACE (greatest(m.known_from, r.known_from) AS known_from), r.known_from AS since
               FROM measured AS m LEFT JOIN quality.reliability AS r
                   ON r.market = m.market AND r.provider = m.provider AND r.month = m.month AND r.known_to IS NULL
               WHERE r.value IS DISTINCT FROM m.value"""
        )
    finally:
        connection.unregister("measured")
    same = "r.market = m.market AND r.provider = m.provider AND r.month = m.month AND r.known_to IS NULL"
    # What rests on no newer instant than the version before it was believed at no time of its own: it takes its place.
    connection.execute(f"DELETE FROM quality.reliability AS r USING moved AS m WHERE {same} AND m.since = m.known_from")
    connection.execute(f"UPDATE quality.reliability AS r SET known_to = m.known_from FROM moved AS m WHERE {same}")
    changed(
        connection,
        "INSERT INTO quality.reliability BY NAME SELECT * EXCLUDE (since) FROM moved ORDER BY provider, month",
    )
    return int(scalar(connection, "SELECT count(*) FROM moved") or 0)
