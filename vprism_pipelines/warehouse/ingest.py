"""From parsed rows to the ledger: clean, quarantine, remember. One transaction, counted to the last row."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date

import duckdb
import polars as pl

from vprism_pipelines.errors import ContractViolation, DataQualityError
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.contracts import violations
from vprism_pipelines.quality.fundamentals_rows import clean_fundamentals
from vprism_pipelines.quality.quotes_rows import clean_quotes, clean_ticks
from vprism_pipelines.quality.revisions import classify_bars, classify_terms
from vprism_pipelines.quality.rows import ANYWHERE, Cleaned, clean_actions, clean_bars, clean_instruments
from vprism_pipelines.telemetry import count
from vprism_pipelines.telemetry.metrics import SYMBOL_NORMALIZATION
from vprism_pipelines.warehouse import ledger
from vprism_pipelines.warehouse.bookkeeping import record_pulls
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.writer import next_batch

# What needs nothing but its rows; bars need the calendars of their sessions too.
_CLEANERS: Mapping[str, Callable[[pl.DataFrame, pl.DataFrame, MarketSpec], Cleaned]] = {
    "actions": clean_actions,
    "instruments": clean_instruments,
    "fundamentals": clean_fundamentals,
    "quotes": clean_quotes,
    "ticks": clean_ticks,
}
# A share says little of a handful of rows: a few rejects alone never stop a market.
ENOUGH_TO_BLOCK = 50


@dataclass(frozen=True, slots=True)
class Ingested:
    """What became of the rows: rows = accepted + quarantined, accepted = new + changed + unchanged."""

    pulls: int = 0
    rows: int = 0
    accepted: int = 0
    quarantined: int = 0
    new: int = 0
    changed: int = 0
    unchanged: int = 0
    reasons: dict[str, int] = field(default_factory=dict)
    batch: int = 0


def pending(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    dataset: str,
    window: tuple[date, date] | None = None,
    *,
    again: bool = False,
) -> pl.DataFrame:
    """Pulls with rows of `dataset` that the clean table has not seen, or all of them.

    A late pull, one that is older than what its provider said since, brings the later ones along: a confirmation
    costs the ledger no row, so only they can tell what was believed after it.

    Args:
        connection: The private file.
        spec: Market.
        dataset: One of `ledger.LEDGERS`.
        window: Only pulls that cover some of these sessions; the ones brought along may cover others.
        again: Also those already ingested, as a replay does.

    Returns:
        fetch_id, provider, fetched_at, rows_path, parser_version, run_id, oldest first.
    """
    table = connection.execute(
        """WITH pulls AS (
               SELECT f.fetch_id, f.provider, f.fetched_at, f.rows_path, f.parser_version, f.run_id,
                      i.fetch_id IS NOT NULL AS seen,
                      ($first IS NULL OR coalesce(range_start <= $last, true) AND coalesce(range_end >= $first, true))
                          AS covers
               FROM raw.fetches AS f
               LEFT JOIN ops.ingests AS i
                   ON i.fetch_id = f.fetch_id AND i.dataset = $dataset AND i.parser_version = f.parser_version
               WHERE market = $market AND list_contains(frames, $dataset)),
           oldest AS (SELECT provider, min(fetched_at) AS since FROM pulls WHERE covers AND NOT seen GROUP BY provider)
           SELECT fetch_id, provider, fetched_at, rows_path, parser_version, run_id
           FROM pulls LEFT JOIN oldest USING (provider)
           WHERE (covers AND ($again OR NOT seen)) OR (seen AND fetched_at >= since)
           ORDER BY fetched_at, fetch_id""",
        {
            "market": spec.code,
            "dataset": dataset,
            "first": window[0] if window else None,
            "last": window[1] if window else None,
            "again": again,
        },
    ).to_arrow_table()
    return pl.DataFrame(table)


def clean_pulls(
    lake: Lake, spec: MarketSpec, dataset: str, pulls: pl.DataFrame, synthetic: Sequence[str] = ()
) -> Cleaned:
    """Read and clean the rows of some pulls; needs no database."""
    raw = pl.concat(
        [
            lake.rows(f"{provider}_{dataset}", group["rows_path"].to_list(), group["fetch_id"].to_list())
            for (provider,), group in pulls.group_by("provider", maintain_order=True)
        ]
    )
    cleaned = clean_raw(raw, pulls, spec, dataset, synthetic)
    unresolved = cleaned.reasons().get("unknown_symbol", 0)
    count(SYMBOL_NORMALIZATION, cleaned.rows - unresolved, status="resolved")
    count(SYMBOL_NORMALIZATION, unresolved, status="unresolved")
    return cleaned


def clean_raw(
    raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec, dataset: str, synthetic: Sequence[str] = ()
) -> Cleaned:
    """Clean raw rows of some pulls.

    Args:
        raw: Rows of the raw contract of `dataset`.
        pulls: fetch_id, provider, fetched_at of every pull in `raw`.
        spec: Market.
        dataset: One of `ledger.LEDGERS`.
        synthetic: Providers that invent their data.

    Returns:
        The rows; spellings with valid_from: the oldest pull here that used each.
    """
    cleaned = _clean(raw, pulls, spec, dataset, synthetic)
    used = (
        raw.select("raw_symbol", "fetch_id")
        .unique()
        .join(pulls.select("fetch_id", "provider", "fetched_at"), on="fetch_id")
        .group_by("raw_symbol", "provider")
        .agg(valid_from=pl.col("fetched_at").min())
    )
    spellings = cleaned.spellings.join(used, on=["raw_symbol", "provider"], maintain_order="left")
    return replace(cleaned, spellings=spellings)


def _clean(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec, dataset: str, synthetic: Sequence[str]) -> Cleaned:
    if dataset in _CLEANERS:
        return _CLEANERS[dataset](raw, pulls, spec)
    invented = pulls.filter(pl.col("provider").is_in(list(synthetic)))["fetch_id"]
    own = pl.col("fetch_id").is_in(invented.implode())
    halves = ((False, raw.filter(~own)), (True, raw.filter(own))) if len(invented) else ((False, raw),)
    parts = [
        clean_bars(part, pulls, spec, _sessions(spec, part), synthetic=flagged)
        for flagged, part in halves
        if not part.is_empty()
    ]
    if len(parts) == 1:
        return parts[0]
    return Cleaned(
        pl.concat([part.accepted for part in parts]),
        pl.concat([part.quarantined for part in parts]),
        pl.concat([part.spellings for part in parts]),
    )


def ingest(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    dataset: str,
    pulls: pl.DataFrame,
    cleaned: Cleaned,
    minimum_quality: float = 0.0,
) -> Ingested:
    """Remember cleaned rows, inside the caller's transaction.

    Raises:
        ContractViolation: Accepted rows break the table's contract: a defect of ours, nothing is written.
        DataQualityError: Fewer than `minimum_quality` of the rows are acceptable; nothing is written.
    """
    newest = of_newest_run(pulls, cleaned)
    counts = Ingested(rows=newest.rows, accepted=newest.accepted.height, quarantined=newest.quarantined.height)
    if error := too_bad(spec, dataset, replace(counts, reasons=cleaned.reasons()), minimum_quality):
        raise error
    prove(dataset, cleaned.accepted)
    return enter(connection, spec, dataset, pulls, cleaned)


def enter(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    dataset: str,
    pulls: pl.DataFrame,
    cleaned: Cleaned,
    since: pl.DataFrame | None = None,
) -> Ingested:
    """Remember rows that were judged and proven, inside the caller's transaction.

    Args:
        connection: Open for writing, in a transaction.
        spec: Market.
        dataset: One of `ledger.LEDGERS`.
        pulls: fetch_id, fetched_at, parser_version of the pulls.
        cleaned: Their rows.
        since: What was said after them, where they are late (`late.said_since`); known before, and recorded then.
    """
    batch = next_batch(connection)
    classify = classify_bars if dataset == "bars" else classify_terms
    said = cleaned.accepted if since is None else pl.concat([cleaned.accepted, since])
    remembered = ledger.remember(connection, ledger.LEDGERS[dataset], said, batch, classify)
    record_pulls(connection, spec, dataset, pulls, cleaned, batch)
    return Ingested(
        pulls=pulls.height,
        rows=cleaned.accepted.height + cleaned.quarantined.height,
        accepted=cleaned.accepted.height,
        quarantined=cleaned.quarantined.height,
        new=remembered.new,
        changed=remembered.changed,
        unchanged=remembered.unchanged,
        reasons=cleaned.reasons(),
        batch=batch,
    )


def of_newest_run(pulls: pl.DataFrame, cleaned: Cleaned) -> Cleaned:
    """The rows that the newest run brought, which is what a delivery is judged by: once answers are good again, those
    refused before come in with them, or one bad day would stop a market for weeks.
    """
    if "run_id" not in pulls.columns:
        return cleaned
    newest = pulls.sort("fetched_at").filter(pl.col("run_id") == pl.col("run_id").last())
    return replace(
        cleaned,
        accepted=cleaned.accepted.join(newest, on="fetch_id", how="semi"),
        quarantined=cleaned.quarantined.join(newest, on="fetch_id", how="semi"),
    )


def tallies(cleaned: Cleaned) -> dict[str, Ingested]:
    """What cleaning made of every pull by itself: rows, accepted, quarantined and the reasons."""
    accepted = dict(cleaned.accepted.group_by("fetch_id").len().iter_rows())
    quarantined = dict(cleaned.quarantined.group_by("fetch_id").len().iter_rows())
    why = cleaned.quarantined.select("fetch_id", "reasons").explode("reasons").group_by("fetch_id", "reasons").len()
    reasons: dict[str, dict[str, int]] = {}
    for fetch_id, reason, rows in why.sort("len", "reasons", descending=[True, False]).iter_rows():
        reasons.setdefault(fetch_id, {})[reason] = rows
    return {
        fetch_id: Ingested(
            pulls=1,
            rows=accepted.get(fetch_id, 0) + quarantined.get(fetch_id, 0),
            accepted=accepted.get(fetch_id, 0),
            quarantined=quarantined.get(fetch_id, 0),
            reasons=reasons.get(fetch_id, {}),
        )
        for fetch_id in accepted | quarantined
    }


def entered(
    connection: duckdb.DuckDBPyConnection, dataset: str, judged: Mapping[str, Ingested], batch: int
) -> dict[str, Ingested]:
    """The tallies of pulls that were entered together, with what the ledger says each of them brought."""
    brought = connection.execute(
        f"""SELECT fetch_id, count(*) FILTER (change_class = 'new'), count(*) FILTER (change_class <> 'new')
            FROM {ledger.LEDGERS[dataset].table.full_name} WHERE batch = ? GROUP BY fetch_id""",
        [batch],
    ).fetchall()
    counts = {fetch_id: (new, changed) for fetch_id, new, changed in brought}
    done = {}
    for fetch_id, tally in judged.items():
        new, changed = counts.get(fetch_id, (0, 0))
        done[fetch_id] = replace(tally, new=new, changed=changed, unchanged=tally.accepted - new - changed, batch=batch)
    return done


def too_bad(spec: MarketSpec, dataset: str, tally: Ingested, minimum_quality: float) -> DataQualityError | None:
    """Why rows are refused as a whole: fewer than `minimum_quality` of them are acceptable."""
    rows, rejected = tally.rows, tally.quarantined
    enough = rejected >= ENOUGH_TO_BLOCK or 2 * rejected > rows
    if not rows or 1 - rejected / rows >= minimum_quality or not enough:
        return None
    return DataQualityError(
        f"only {tally.accepted:,} of {rows:,} {dataset} rows are acceptable",
        hint=f"reasons: {tally.reasons}; lower MIN_DATA_QUALITY only if you know why",
        market=spec.code,
        check="rejection_rate",
    )


def prove(dataset: str, accepted: pl.DataFrame) -> None:
    """Hold accepted rows against the contract of their table.

    Raises:
        ContractViolation: A defect of the cleaning rules.
    """
    book = ledger.LEDGERS[dataset]
    stamped = accepted.with_columns(
        known_to=pl.lit(None, dtype=pl.Datetime("us", "UTC")), change_class=pl.lit(""), batch=pl.lit(0, dtype=pl.Int64)
    )
    # Several pulls may speak of one key at one instant; the ledger settles whose word counts.
    per_pull = replace(book.table, key=(*book.table.key, "fetch_id"))
    found = violations(per_pull, book.table.conform(stamped))
    if not found.is_empty():
        first = found.row(0, named=True)
        raise ContractViolation(
            f"{found.height} accepted {dataset} rows break the contract of {book.table.full_name}:"
            f" {first['column']} {first['check']} (value {first['failure_case']})",
            hint="this is a defect of the cleaning rules; please report it with the pull's fetch_id",
            check="contract",
            fetch_id=accepted["fetch_id"][first["index"]] if first["index"] is not None else None,
        )


def _sessions(spec: MarketSpec, raw: pl.DataFrame) -> pl.DataFrame:
    """Trading days of the market's calendars over the dates of the rows, as far as the calendars reach."""
    dates: list[date] = raw.select(pl.col("session").min(), last=pl.col("session").max()).row(0)  # type: ignore[assignment]
    frames = []
    for name in sorted({spec.calendar, *(exchange.calendar for exchange in spec.exchanges.values())}):
        days = calendar(name)
        first = max(dates[0] or days.first_session, days.first_session)
        last = min(dates[1] or days.first_session, days.last_session)
        # Rows the calendar does not reach find no session and are quarantined as such.
        known = days.sessions(first, last) if first <= last else days.sessions(days.first_session, days.first_session)
        frames.append(known.with_columns(calendar=pl.lit(name)))
    if len(frames) > 1:
        anywhere = pl.concat(frames).group_by("session").agg(pl.col("close").max(), pl.col("projected").all())
        frames.append(anywhere.with_columns(calendar=pl.lit(ANYWHERE)))
    return pl.concat(frames, how="diagonal")
