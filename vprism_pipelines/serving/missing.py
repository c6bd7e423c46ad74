"""Why there is no published value: the reasons, in the order in which they exclude each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market_of
from vprism_pipelines.serving.explanation import Explanation, Missing
from vprism_pipelines.serving.library import Library


def bar(library: Library, told: Explanation, candidates: Sequence[Mapping[str, Any]], now: datetime) -> Missing:
    """Why golden has no bar of a symbol on a day.

    Args:
        library: The published warehouse.
        told: What was asked.
        candidates: What providers said of it, and why each takes no part.
        now: To tell future dates.
    """
    if candidates:
        return _nobody_believed(candidates)
    session, symbol = told.session, told.symbol
    spec = market_of(symbol)
    if session > spec.today(now):
        return Missing("future", f"{session} is in the future")
    rejected = _rejected(library, told)
    if rejected:
        return Missing("rejected", "every row that speaks of it was refused when it was read", tuple(rejected))
    if listing := _not_listed(library, told):
        return listing
    exchange = _exchange(library, told)
    days = calendar(spec.exchanges[exchange].calendar if exchange else spec.calendar)
    if not days.is_session(session):
        near = f"the nearest ones are {days.previous(session)} and {days.next(session)}"
        return Missing("not_a_session", f"{session} is no session of {days.name}; {near}")
    return _not_told(library, told)


def field(told: Explanation) -> Missing:
    """Why a bar lacks one of its numbers."""
    return Missing("not_given", f"{told.chosen} gives the bar without its {told.field}")


def _nobody_believed(candidates: Sequence[Mapping[str, Any]]) -> Missing:
    said = tuple(
        {"provider": row["provider"], "close": row["close"], "reason": row["excluded"], "checks": row["checks"]}
        for row in candidates
    )
    if all(row["provisional"] for row in candidates):
        return Missing("provisional", "the session was still running, or settling, when it was last pulled", said)
    if any(row["quarantined"] for row in candidates):
        return Missing("quarantined", "no candidate is left: the checks quarantined what was said", said)
    if any(row["sidelined"] for row in candidates):
        return Missing("sidelined", "only providers that take no part in golden speak of it", said)
    return Missing("unknown", "there are candidates and no golden bar: it is not built yet, run `vprism run`", said)


def _rejected(library: Library, told: Explanation) -> list[dict[str, Any]]:
    """Refused rows about the symbol and day; a spelling that was never understood is taken by its code."""
    return library.sql(
        """SELECT provider, fetched_at, array_to_string(reasons, ', ') AS reasons, fetch_id, payload_row, row_json
           FROM clean.quarantine AS q
           WHERE dataset = 'bars' AND session = $session AND fetched_at <= coalesce($as_of, now())
             AND (raw_symbol IN (SELECT raw_symbol FROM clean.symbol_map AS m
                                 WHERE m.provider = q.provider AND m.symbol = $symbol)
                  OR upper(raw_symbol) IN ($symbol, $code))
           ORDER BY fetched_at DESC LIMIT 5""",
        {
            "session": told.session,
            "symbol": told.symbol,
            "code": told.symbol.rpartition(":")[2],
            "as_of": told.as_of,
        },
    ).to_dicts()


def _not_listed(library: Library, told: Explanation) -> Missing | None:
    said = library.sql(
        "SELECT provider, listed, delisted FROM clean.instruments_ledger WHERE symbol = ? AND known_to IS NULL",
        [told.symbol],
    ).to_dicts()
    outside = [
        row
        for row in said
        if (row["listed"] and told.session < row["listed"]) or (row["delisted"] and told.session > row["delisted"])
    ]
    if outside and len(outside) == len([row for row in said if row["listed"] or row["delisted"]]):
        since, until = outside[0]["listed"], outside[0]["delisted"]
        span = f"from {since}" if since and told.session < since else f"until {until}"
        return Missing("not_listed", f"{told.symbol} was listed {span}", tuple(outside))
    return None


def _exchange(library: Library, told: Explanation) -> str | None:
    found = library.sql(
        """SELECT coalesce((SELECT arg_max(exchange, session) FROM golden.bars WHERE symbol = $1),
                           (SELECT max(exchange) FROM clean.instruments_ledger WHERE symbol = $1)) AS exchange""",
        [told.symbol],
    )["exchange"].to_list()
    return found[0] if found and found[0] in market_of(told.symbol).exchanges else None


def _not_told(library: Library, told: Explanation) -> Missing:
    """A session on which nobody gave a bar: not asked, refused, or asked and silent."""
    span = library.sql(
        "SELECT min(session) AS first, max(session) AS last FROM golden.bars WHERE symbol = ?", [told.symbol]
    ).row(0, named=True)
    pulls = library.sql(
        """SELECT provider, fetched_at, status, error_code, error, rows, fetch_id FROM raw.fetches
           WHERE market = $market AND dataset = 'bars' AND fetched_at <= coalesce($as_of, now())
             AND $session BETWEEN coalesce(range_start, $session) AND coalesce(range_end, $session)
             AND (symbol = $symbol OR (symbol IS NULL AND coalesce(list_contains(
                    string_split(request->>'$.params.symbols', ','), $symbol), true)))
           ORDER BY fetched_at DESC LIMIT 5""",
        {
            "market": market_of(told.symbol).code,
            "session": told.session,
            "symbol": told.symbol,
            "as_of": told.as_of,
        },
    ).to_dicts()
    held = f"; golden has {told.symbol} from {span['first']} to {span['last']}" if span["first"] else ""
    if not pulls:
        return Missing("not_asked", f"nobody was asked about {told.session}{held}: `vprism run --start {told.session}`")
    failed = [pull for pull in pulls if pull["error_code"]]
    if len(failed) == len(pulls):
        return Missing("refused", f"the pulls about {told.session} brought errors{held}", tuple(failed))
    return Missing(
        "not_told",
        f"providers were asked and gave no bar on {told.session}: not traded, suspended or not covered{held}",
        tuple(pulls),
    )
