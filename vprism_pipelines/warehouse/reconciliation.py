"""Comparing the providers of a market with each other, pair by pair, and keeping what they disagree on.

What is compared is the bar as traded, over all common rows. An update compares again only the sessions in which either
side changed, with enough sessions around them to tell a slip from a run; everything further away stands as it was told.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import combinations
from typing import Any

import duckdb
import polars as pl

from vprism_pipelines.errors import InvalidInput, NoData, UnknownProvider
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.reconcile import Reconciliation, reconcile
from vprism_pipelines.tables import RECONCILIATION_DIFFS, RECONCILIATION_RUNS
from vprism_pipelines.warehouse.building import Query, frame, insert, prefix, set_watermark, watermark
from vprism_pipelines.warehouse.measures import Measurement

__all__ = ["Comparison", "compare", "query_of", "standing", "store", "update"]

AS_TRADED = "clean.traded_bars"
MARGIN = timedelta(days=30)  # on each side of a change, compared again because a class there may change with it
CONTEXT = timedelta(days=60)  # on each side of a change, read so that runs of differences are seen whole
RECENT = 20  # newest common sessions: what a verdict that may stop a market rests on


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two providers compared over a range of sessions.

    Attributes:
        sources: Whom: (a, b).
        result: Everything found, see `quality.reconcile`.
        recent: The same over the newest `RECENT` common sessions alone.
        window: First and last session that were read.
        symbols: Symbols compared; None: all.
    """

    sources: tuple[str, str]
    result: Reconciliation
    recent: Reconciliation
    window: tuple[date, date]
    symbols: tuple[str, ...] | None = None

    def run(self, spec: MarketSpec, run_id: str, now: datetime, scope: str = "asked") -> pl.DataFrame:
        """The row of `quality.reconciliation_runs`."""
        recent = self.recent.run.row(0, named=True)
        judged = sum(recent[f"{status}_count"] for status in ("pass", "warn", "fail"))
        return RECONCILIATION_RUNS.conform(
            self.result.run.with_columns(
                run_id=pl.lit(run_id),
                market=pl.lit(spec.code),
                scope=pl.lit(scope),
                sample=pl.lit(None if self.symbols is None else len(self.symbols)),
                recent_rows=pl.lit(judged),
                recent_fail_share=pl.lit(recent["fail_share"] if judged else None),
                compared_at=pl.lit(now),
            )
        )


def query_of(connection: duckdb.DuckDBPyConnection) -> Query:
    """Queries of an open connection."""
    return lambda sql, parameters: frame(connection, sql, parameters)


def compare(
    query: Query,
    spec: MarketSpec,
    sources: tuple[str, str],
    *,
    start: date | None = None,
    end: date | None = None,
    sample: int | None = None,
) -> Comparison:
    """Compare all common bars of two providers, as traded.

    Args:
        query: Where the bars are.
        spec: Market.
        sources: Whom: (a, b).
        start: First session; None: the first that both cover.
        end: Last session; None: the last that both cover.
        sample: Draw this many of the symbols that both have; always the same ones.

    Raises:
        InvalidInput: The two are one.
        UnknownProvider: One of them tells no bars as traded of that market.
        NoData: They have no traded bar in common in these sessions.
    """
    if sources[0] == sources[1]:
        raise InvalidInput(f"{sources[0]} cannot be compared with itself", hint="name two providers")
    series = _series(query, spec)
    spans = _spans(series)
    for name in sources:
        if name not in spans:
            raise UnknownProvider(
                f"{name} has no bars as traded of the {spec.code} market",
                hint=f"there are bars of {', '.join(spans) or 'nobody'}; prices adjusted by their source have no"
                " level that could be compared",
                provider=name,
            )
    a, b = (spans[name] for name in sources)
    first, last = max(a[0], b[0], start or date.min), min(a[1], b[1], end or date.max)
    symbols = _sample(query, spec, sources, (first, last), sample) if sample is not None else None
    compared = _compared(query, spec, sources, (first, last), series, symbols)
    if compared.result.run["compared"][0] == 0:
        raise NoData(
            f"{sources[0]} and {sources[1]} have no traded bar in common there",
            hint=f"{sources[0]} tells {a[0]} to {a[1]}, {sources[1]} {b[0]} to {b[1]}",
            market=spec.code,
        )
    return compared


def update(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, run_id: str, now: datetime
) -> dict[tuple[str, str], int]:
    """Compare again what changed since every pair was last compared; in the caller's transaction.

    Returns:
        Rows compared, by pair. Pairs in which nothing changed, or that share nothing, are left out.
    """
    query = query_of(connection)
    newest_of = dict(
        connection.execute(
            f"SELECT provider, max(batch) FROM clean.bars_ledger WHERE {prefix(spec)} GROUP BY provider"
        ).fetchall()
    )
    due = [
        pair
        for pair in combinations(sorted(newest_of, key=lambda name: (spec.rank(name), name)), 2)
        if max(newest_of[pair[0]], newest_of[pair[1]]) > watermark(connection, _stage(pair), spec)
    ]
    if not due:
        return {}
    series = _series(query, spec)
    spans = _spans(series)
    done = {}
    for a, b in due:
        since = watermark(connection, _stage((a, b)), spec)
        set_watermark(connection, _stage((a, b)), spec, max(newest_of[a], newest_of[b]))
        if a not in spans or b not in spans:
            continue
        overlap = max(spans[a][0], spans[b][0]), min(spans[a][1], spans[b][1])
        if overlap[0] > overlap[1]:
            continue
        changed = _changed(query, spec, (a, b), since) if since else overlap
        if changed and changed[0] <= overlap[1] and changed[1] >= overlap[0]:
            wide = max(overlap[0], changed[0] - CONTEXT), min(overlap[1], changed[1] + CONTEXT)
            compared = _compared(query, spec, (a, b), wide, series)
            store(connection, spec, compared, run_id, now, (changed[0] - MARGIN, changed[1] + MARGIN))
            done[a, b] = int(compared.result.run["compared"][0])
    return done


def store(
    connection: duckdb.DuckDBPyConnection,
    spec: MarketSpec,
    compared: Comparison,
    run_id: str,
    now: datetime,
    window: tuple[date, date] | None = None,
) -> None:
    """Keep a comparison: its run, and its differences in place of those that stood in the same sessions.

    Args:
        connection: The private file, in a transaction.
        spec: Market.
        compared: What to keep.
        run_id: Run or command.
        now: When.
        window: Sessions whose differences are kept, where the others were read as context only; None: all compared.
    """
    a, b = compared.sources
    run = compared.run(spec, run_id, now, "asked" if window is None else "changes")
    window = window or compared.window
    diffs = compared.result.diffs.filter(pl.col("session").is_between(*window)).with_columns(
        run_id=pl.lit(run_id), market=pl.lit(spec.code), source_a=pl.lit(a), source_b=pl.lit(b)
    )
    pair = "market = $market AND source_a = $a AND source_b = $b"
    parameters: dict[str, Any] = {"market": spec.code, "a": a, "b": b}
    connection.execute(
        f"DELETE FROM {RECONCILIATION_RUNS.full_name} WHERE {pair} AND run_id = $run", {**parameters, "run": run_id}
    )
    drawn = "" if compared.symbols is None else "AND list_contains($symbols, symbol)"
    connection.execute(
        f"DELETE FROM {RECONCILIATION_DIFFS.full_name} WHERE {pair} AND session BETWEEN $first AND $last {drawn}",
        {**parameters, "first": window[0], "last": window[1]}
        | ({} if compared.symbols is None else {"symbols": list(compared.symbols)}),
    )
    insert(connection, RECONCILIATION_RUNS, run)
    insert(connection, RECONCILIATION_DIFFS, diffs)


def standing(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Measurement:
    """The failing share of the newest sessions of the worst pair, as runs last compared them; None: nobody to compare.

    What went wrong years ago is in the run and the differences; a verdict is about what is published next.
    """
    pairs = frame(
        connection,
        f"""SELECT source_a, source_b, recent_fail_share AS failing, recent_rows AS rows, compared, fail_share, status,
                   "end" AS until
            FROM {RECONCILIATION_RUNS.full_name} WHERE market = '{spec.code}' AND scope = 'changes'
            QUALIFY row_number() OVER (PARTITION BY source_a, source_b ORDER BY compared_at DESC, run_id DESC) = 1
            ORDER BY failing DESC NULLS LAST, source_a, source_b""",
    )
    worst = pairs["failing"].to_list()[:1]
    return Measurement("reconciliation", worst[0] if worst else None, pairs)


def _stage(pair: tuple[str, str]) -> str:
    return f"quality.reconciliation/{pair[0]}/{pair[1]}"


# --- reading --------------------------------------------------------------------------------------------------------

_COMPARABLE = "price_basis = 'raw' AND NOT provisional"


def _bars(
    query: Query,
    spec: MarketSpec,
    sources: tuple[str, str],
    window: tuple[date, date],
    symbols: tuple[str, ...] | None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    drawn = "" if symbols is None else "AND list_contains($symbols, symbol)"
    parameters: dict[str, Any] = {"first": window[0], "last": window[1]}
    parameters |= {} if symbols is None else {"symbols": list(symbols)}
    frames = (
        query(
            f"""SELECT symbol, session, close, volume, exchange FROM {AS_TRADED}
                WHERE provider = $provider AND {prefix(spec)} AND {_COMPARABLE}
                  AND session BETWEEN $first AND $last {drawn}""",
            {**parameters, "provider": name},
        )
        for name in sources
    )
    return next(frames), next(frames)


def _series(query: Query, spec: MarketSpec) -> pl.DataFrame:
    """symbol, provider, first, last: from when to when each provider has traded bars of each symbol."""
    return query(
        f"""SELECT symbol, provider, min(session) AS first, max(session) AS last FROM {AS_TRADED}
            WHERE {prefix(spec)} AND {_COMPARABLE} AND volume IS DISTINCT FROM 0 GROUP BY symbol, provider""",
        {},
    )


def _spans(series: pl.DataFrame) -> dict[str, tuple[date, date]]:
    """First and last session of every provider."""
    spans = series.group_by("provider").agg(pl.col("first").min(), pl.col("last").max()).sort("provider")
    return {provider: (first, last) for provider, first, last in spans.iter_rows()}


def _compared(
    query: Query,
    spec: MarketSpec,
    sources: tuple[str, str],
    window: tuple[date, date],
    series: pl.DataFrame,
    symbols: tuple[str, ...] | None = None,
) -> Comparison:
    bars = _bars(query, spec, sources, window, symbols)
    covered = (
        series.filter(pl.col("provider").is_in(sources))
        .group_by("symbol")
        .agg(first=pl.col("first").max(), last=pl.col("last").min(), sides=pl.len())
        .filter(pl.col("sides") == 2)
    )
    newest_days = pl.concat([side.select("session") for side in bars]).unique().sort("session").tail(RECENT)
    recent = [side.join(newest_days, on="session", how="semi") for side in bars]
    result, newest = (
        reconcile(*part, spec, sources=sources, covered=covered) for part in (bars, (recent[0], recent[1]))
    )
    return Comparison(sources, result, newest, window, symbols)


def _sample(
    query: Query, spec: MarketSpec, sources: tuple[str, str], window: tuple[date, date], size: int
) -> tuple[str, ...]:
    """Symbols that both have, drawn by hash: the same ones every time."""
    common = query(
        f"""SELECT symbol FROM {AS_TRADED}
            WHERE provider IN ($a, $b) AND {prefix(spec)} AND {_COMPARABLE} AND session BETWEEN $first AND $last
            GROUP BY symbol HAVING count(DISTINCT provider) = 2 ORDER BY md5(symbol) LIMIT $size""",
        {"a": sources[0], "b": sources[1], "first": window[0], "last": window[1], "size": size},
    )
    return tuple(sorted(common["symbol"]))


def _changed(query: Query, spec: MarketSpec, sources: tuple[str, str], since: int) -> tuple[date, date] | None:
    """First and last session that a change since a batch may bear on.

    A session that one side lacks is a difference once that side goes on, so what a side tells anew reaches from its
    traded bar before to its traded bar after.
    """
    span = query(
        f"""WITH told AS (SELECT symbol, provider, session, batch, volume IS DISTINCT FROM 0 AS traded
                          FROM clean.bars_ledger WHERE provider IN ($a, $b) AND {prefix(spec)}),
            touched AS (SELECT symbol, provider, min(session) AS first, max(session) AS last FROM told
                        WHERE batch > $since GROUP BY ALL),
            around AS (SELECT max(session) FILTER (session < first) AS before,
                              min(session) FILTER (session > last) AS after
                       FROM told JOIN touched USING (symbol, provider) WHERE traded GROUP BY symbol, provider)
            SELECT least(min(first), (SELECT min(before) FROM around)) AS first,
                   greatest(max(last), (SELECT max(after) FROM around)) AS last FROM touched""",
        {"a": sources[0], "b": sources[1], "since": since},
    ).row(0)
    return (span[0], span[1]) if span[0] is not None else None
