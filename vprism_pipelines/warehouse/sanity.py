"""Does it make sense as a whole? Units, dates, the index, and how much history is rewritten."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import duckdb
import polars as pl

from vprism_pipelines.errors import DataQualityError
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.alignment import date_shift, unit_suspects
from vprism_pipelines.quality.checks import Status
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds
from vprism_pipelines.warehouse.building import frame, prefix
from vprism_pipelines.warehouse.measurement import Measurement

__all__ = ["date_shifts", "index_sanity", "mistaken_units", "prove_dates", "revision_rate", "shifted_pulls"]

SUSPECT_SHARE = 0.5  # of the symbols judged; fewer can be oddities, more is the wrong unit
INDEX_SESSIONS = 250
INDEX_MEMBERS = 20
INDEX_TOLERANCE = 0.02  # of the day's return
REVISED_SYMBOLS = 20  # a pull about fewer says little by a share


def mistaken_units(cleaned: Cleaned, spec: MarketSpec, names: Mapping[str, str]) -> dict[str, DataQualityError]:
    """Pulls whose prices or volumes are in another unit than declared: most symbols that can be judged are off by the
    same power of ten.

    Args:
        cleaned: Bars of some pulls, each judged by itself.
        spec: Whose rules tell.
        names: What to call each pull.
    """
    # Every pull takes the place of a provider: what is usual for it is found among its own symbols.
    bars = cleaned.accepted.select("symbol", "session", "exchange", "close", "volume", "value", provider="fetch_id")
    judged = bars.group_by("provider").agg(symbols=pl.col("symbol").n_unique())
    worst = (
        unit_suspects(bars, spec)
        .group_by("provider", "field", "factor", maintain_order=True)
        .agg(pl.len(), pl.col("symbol", "evidence").first())
        .join(judged, on="provider", maintain_order="left")
        .filter(pl.col("len") >= SUSPECT_SHARE * pl.col("symbols"))
        .sort("len", descending=True, maintain_order=True)
        .unique("provider", keep="first", maintain_order=True)
    )
    return {
        row["provider"]: DataQualityError(
            f"{names[row['provider']]}: the {row['field']} of {row['len']:,} of {row['symbols']:,} symbols looks off"
            f" by a factor of {row['factor']:g}: {row['evidence']}",
            hint=f"correct the unit of {row['field']} in the mapping; nothing was imported",
            check="units",
            symbol=row["symbol"],
        )
        for row in worst.iter_rows(named=True)
    }


def prove_dates(cleaned: Cleaned, spec: MarketSpec, thresholds: Thresholds = DEFAULTS) -> Measurement:
    """Refuse deliveries whose dates are a day off before anything of them is believed.

    Args:
        cleaned: Bars of some pulls; those on closed days are in its quarantine.
        spec: Market whose main calendar they are held against.
        thresholds: In force.

    Raises:
        DataQualityError: The dates of a delivery fit the calendar better one day earlier or later.
    """
    shifted = _date_shifts(cleaned, spec, thresholds)
    if shifted.status is Status.FAIL:
        raise _shifted(shifted.evidence.row(0, named=True), shifted, spec)
    return shifted


def shifted_pulls(cleaned: Cleaned, spec: MarketSpec, thresholds: Thresholds = DEFAULTS) -> dict[str, DataQualityError]:
    """As `prove_dates`, every delivery judged by itself: fetch_id -> why it is refused."""
    shifted = _date_shifts(cleaned, spec, thresholds)
    alone = replace(shifted, value=1.0)
    if alone.status is not Status.FAIL:
        return {}
    return {row["fetch_id"]: _shifted(row, alone, spec) for row in shifted.evidence.iter_rows(named=True)}


def _date_shifts(cleaned: Cleaned, spec: MarketSpec, thresholds: Thresholds) -> Measurement:
    days = calendar(spec.calendar)
    return date_shifts(cleaned, days.sessions(days.first_session, days.last_session), thresholds)


def _shifted(delivery: dict[str, Any], shifted: Measurement, spec: MarketSpec) -> DataQualityError:
    return DataQualityError(
        f"{1 - delivery['overlap_0']:.1%} of the dates {delivery['provider']} sent are no sessions of {spec.calendar};"
        f" they fit once moved by {delivery['best_lag']:+d} day",
        hint="its time stamps are of another zone: name that zone in the file's mapping, or correct the parser;"
        " nothing was written",
        market=spec.code,
        check=shifted.check,
        deliveries=int(shifted.value or 0),
    )


def date_shifts(cleaned: Cleaned, sessions: pl.DataFrame, thresholds: Thresholds = DEFAULTS) -> Measurement:
    """Deliveries of which every date fits the calendar better when moved by a day: time stamps of another zone.

    Args:
        cleaned: Bars of some pulls; those on closed days are in its quarantine.
        sessions: session: the market's.
        thresholds: In force.
    """
    key = ["provider", "fetch_id", "session"]
    dates = pl.concat([cleaned.accepted.select(key), cleaned.quarantined.select(key)])
    if dates.is_empty():
        return Measurement("date_shift", None, dates, thresholds=thresholds)
    shifted = date_shift(dates, sessions).filter(pl.col("verdict") == "SHIFTED")
    return Measurement("date_shift", float(shifted.height), shifted, thresholds=thresholds)


def index_sanity(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> Measurement:
    """Sessions on which the median share moved by 2 % more or less than the index: one of the two is wrong.

    Returns on ex-dates are left out, as are sessions with fewer than 20 shares.
    """
    if spec.benchmark is None:
        return Measurement("index_sanity", None, pl.DataFrame(), thresholds=thresholds)
    rows = frame(
        connection,
        f"""WITH days AS (SELECT DISTINCT session FROM golden.bars WHERE symbol = '{spec.benchmark}'
                          ORDER BY session DESC LIMIT {INDEX_SESSIONS + 1}),
            moves AS (
                SELECT symbol, session, close / lag(close) OVER (PARTITION BY symbol ORDER BY session) - 1 AS move
                FROM golden.bars
                WHERE {prefix(spec)} AND session >= (SELECT min(session) FROM days)
                  AND (volume > 0 OR symbol = '{spec.benchmark}')
                  AND (symbol LIKE '%:STOCK:%' OR symbol = '{spec.benchmark}')),
            shares AS (
                SELECT session, median(move) AS median_share, count(*) AS shares
                FROM moves ANTI JOIN (SELECT symbol, effective_session AS session FROM golden.factor_steps) AS e
                    USING (symbol, session)
                WHERE symbol <> '{spec.benchmark}' AND move IS NOT NULL GROUP BY session)
            SELECT session, round(median_share, 6) AS median_share, round(move, 6) AS index_move, shares
            FROM shares JOIN moves USING (session)
            WHERE symbol = '{spec.benchmark}' AND shares >= {INDEX_MEMBERS}
              AND round(abs(median_share - move), 12) > {INDEX_TOLERANCE}
            ORDER BY session DESC""",
    )
    return Measurement("index_sanity", float(rows.height), rows, thresholds=thresholds)


def revision_rate(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, thresholds: Thresholds = DEFAULTS
) -> Measurement:
    """Share of a provider's symbols whose settled bars one pull restated: many at once are the provider's mistake."""
    rows = frame(
        connection,
        f"""WITH known AS (SELECT provider, count(DISTINCT symbol) AS symbols FROM clean.bars_ledger
                           WHERE {prefix(spec)} GROUP BY provider),
            pulls AS (
                SELECT provider, known_from, count(DISTINCT symbol) AS restated, count(*) AS rows
                FROM clean.bars_ledger WHERE {prefix(spec)} AND change_class = 'restatement' GROUP BY ALL)
            SELECT provider, known_from, restated, symbols, rows, restated / symbols AS share
            FROM pulls JOIN known USING (provider) WHERE symbols >= {REVISED_SYMBOLS}
            ORDER BY share DESC, known_from DESC""",
    )
    value = float(rows["share"][0]) if rows.height else 0.0
    return Measurement("revision_rate", value, rows, thresholds=thresholds)
