"""Understanding what people ask for: dates, instants and symbols as they write them, and what they may have meant."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import date, datetime
from difflib import get_close_matches

from vprism_pipelines.errors import InvalidRange, UnknownSymbol


def period(
    start: date | str | None, end: date | str | None, *, today: date | None = None
) -> tuple[date | None, date | None]:
    """A range of sessions as dates; None stays None.

    Raises:
        InvalidRange: A bound is not an ISO date, the range is reversed, or it begins after `today`.
    """
    first = None if start is None else one_day(start, "start")
    last = None if end is None else one_day(end, "end")
    if first and last and first > last:
        raise InvalidRange(f"the range starts on {first}, after its end on {last}", hint="swap start and end")
    if today and first and first > today:
        raise InvalidRange(f"the range starts on {first}, in the future", hint=f"today is {today}; start earlier")
    return first, last


def nearest(word: str, known: Collection[str]) -> str:
    """`did you mean AAPL?`, or nothing when nothing known comes near."""
    names = {name.upper(): name for name in known}
    found = get_close_matches(word.strip().upper(), names, n=3)
    return f"did you mean {' or '.join(names[match] for match in found)}?" if found else ""


def the_one(raw: str, codes: Mapping[str, list[str]], resolved: frozenset[str]) -> str:
    """The known symbol that a spelling means, by its bare code or by the rules of symbol resolution."""
    spelled = raw.strip().upper()
    found = sorted(resolved | set(codes.get(spelled, [])))
    if len(found) == 1:
        return found[0]
    if found:
        raise UnknownSymbol(f"{raw!r} means several symbols", hint=f"use one of: {', '.join(found)}", symbol=raw)
    everything = "`vprism sql 'SELECT DISTINCT symbol FROM golden.bars'` lists all"
    near = nearest(spelled.rpartition(":")[2], codes)
    raise UnknownSymbol(f"{raw!r} is not in the warehouse", hint=near or everything, symbol=raw)


def one_day(value: date | str, name: str) -> date:
    """A date; `name` is what it is called when it cannot be read.

    Raises:
        InvalidRange: It is no ISO date.
    """
    if isinstance(value, str):
        try:
            return date.fromisoformat(value.strip())
        except ValueError:
            raise InvalidRange(f"{name} {value!r} is not a date", hint="write YYYY-MM-DD, as in 2024-01-31") from None
    return value.date() if isinstance(value, datetime) else value


def instant(value: datetime | str) -> datetime:
    """A moment, aware of its zone.

    Raises:
        InvalidRange: It cannot be read, or says no offset.
    """
    try:
        found = datetime.fromisoformat(value.strip()) if isinstance(value, str) else value
    except ValueError:
        found = None
    if found is None or found.tzinfo is None:
        raise InvalidRange(
            f"as_of {value!s} is not an instant", hint="write date, time and offset, as in 2024-01-31T16:00:00Z"
        )
    return found
