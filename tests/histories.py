"""Random histories of a market as its providers told it: corrections, provisional bars, events, late pulls."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from tests.house import DAYS, Bench, Scripted, action, answer, bar, content, scripted
from vprism_pipelines.warehouse.indicator_tables import STATE
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.publish import content_hash

SESSIONS = 24
PROVIDERS: dict[str, type[Scripted]] = {name: scripted(name) for name in ("one", "two", "three")}


@dataclass(frozen=True)
class Telling:
    """One pull: which provider tells what about which sessions, and when.

    Attributes:
        first: Index of the first session told about.
        length: How many sessions.
        wait: Hours after midnight UTC of the last session at which the answer comes; 17 is while New York trades.
        deltas: What the closes of some sessions differ by from what everybody else says.
        events: Corporate actions: index of the ex-date, and the terms.
    """

    provider: str
    codes: tuple[str, ...]
    first: int
    length: int
    wait: int
    deltas: tuple[tuple[int, float], ...] = ()
    untraded: tuple[int, ...] = ()
    events: tuple[tuple[int, tuple[tuple[str, Any], ...]], ...] = ()

    @property
    def last(self) -> int:
        return min(self.first + self.length, SESSIONS) - 1

    def at(self, number: int) -> datetime:
        """When; no two pulls of a history at the same instant."""
        midnight = datetime.combine(DAYS[self.last], time(), UTC)
        return midnight + timedelta(hours=self.wait, microseconds=number)

    def body(self) -> bytes:
        deltas = dict(self.deltas)
        bars = [
            bar(
                code,
                DAYS[n],
                round(20 + 3 * (code == "B") + (n * 7 % 11) / 4 + deltas.get(n, 0.0), 4),
                volume=0.0 if n in self.untraded else 1000.0 + n,
            )
            for code in self.codes
            for n in range(self.first, self.last + 1)
        ]
        actions = [action(code, DAYS[n], **dict(terms)) for code in self.codes for n, terms in self.events]
        return answer(bars, actions)


PLACES = st.integers(0, SESSIONS - 1)
TERMS = st.sampled_from(
    [
        (("cash", 0.5),),
        (("cash", 0.25),),
        (("event_type", "split"), ("split_ratio", 2.0)),
        (("event_type", "bonus"), ("bonus_ratio", 0.1)),
    ]
)


@st.composite
def tellings(draw: st.DrawFn) -> Telling:
    first = draw(PLACES)
    return Telling(
        provider=draw(st.sampled_from(["one", "one", "two", "three"])),
        codes=draw(st.sampled_from([("A",), ("B",), ("A", "B")])),
        first=first,
        length=draw(st.integers(1, SESSIONS - first)),
        wait=draw(st.sampled_from([17, 22, 22, 72, 500])),
        deltas=tuple(draw(st.dictionaries(PLACES, st.sampled_from([0.5, -0.5, 0.001]), max_size=3)).items()),
        untraded=tuple(draw(st.sets(PLACES, max_size=2))),
        events=tuple(draw(st.dictionaries(PLACES, TERMS, max_size=2)).items()),
    )


HISTORIES = st.lists(tellings(), min_size=2, max_size=5)


def tell(bench: Bench, history: Sequence[Telling]) -> None:
    """Live through a history: after every answer a refresh."""
    for number, telling in enumerate(history):
        span = DAYS[telling.first], DAYS[telling.last]
        bench.pull(PROVIDERS[telling.provider], telling.body(), telling.at(number), span)
        bench.refresh()


def rebuilt(lake: Lake) -> Bench:
    """A warehouse made from the lake alone, all at once."""
    bench = Bench(lake)
    for path in lake.payload_files():
        bench.register(PROVIDERS[path.split("/")[1]], list(lake.payloads(path)), path)
    bench.refresh()
    return bench


def assert_equals_rebuilt(bench: Bench) -> None:
    """Bit for bit, the state that the next session continues from included."""
    with rebuilt(bench.lake) as fresh:
        lived, made = content(bench), content(fresh)
        for name, frame in made.items():
            assert lived[name].equals(frame), f"{name}\n{lived[name]}\n{frame}"
        assert content_hash(bench.connection) == content_hash(fresh.connection)
        order = f"FROM {STATE.full_name} ORDER BY symbol"
        assert bench.frame(order).equals(fresh.frame(order))


def lived(folder: Path, *history: Telling) -> Bench:
    """A warehouse that lived through a history."""
    bench = Bench(Lake(folder))
    tell(bench, history)
    return bench
