"""What a user of the ledger can rely on: it never forgets what was believed, and no order of arrival changes that."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import duckdb
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.house import DAYS, US, Bench, action, answer, bar, scripted
from vprism_pipelines.quality.revisions import classify_bars, classify_terms
from vprism_pipelines.tables import CLEAN_BARS
from vprism_pipelines.warehouse import ledger, schema
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.ledger import ACTIONS, BARS, Remembered, remember

EPOCH = datetime(2026, 1, 5, 22, tzinfo=UTC)
Key = tuple[str, date, str]
Value = tuple[Any, ...]
COLUMNS = [name for name in CLEAN_BARS.names if name not in ("known_to", "change_class", "batch")]


def instant(minute: int) -> datetime:
    return EPOCH + timedelta(minutes=minute)


@dataclass(frozen=True)
class Pull:
    """What one pull of one provider said: closes, volumes and whether still provisional, by symbol and session."""

    fetch_id: str
    provider: str
    at: datetime
    says: tuple[tuple[tuple[str, date], tuple[float, int | None, bool]], ...]

    def rows(self) -> list[dict[str, Any]]:
        return [
            {
                "symbol": symbol,
                "session": session,
                "provider": self.provider,
                "open": close,
                "high": close,
                "low": close,
                "close": close,
                "volume": volume,
                "value": None,
                "adj_close": None,
                "currency": "USD",
                "exchange": None,
                "price_basis": "raw",
                "flags": 0,
                "provisional": provisional,
                "known_from": self.at,
                "fetch_id": self.fetch_id,
                "payload_row": row,
            }
            for row, ((symbol, session), (close, volume, provisional)) in enumerate(self.says)
        ]


def frame(pulls: Sequence[Pull]) -> pl.DataFrame:
    types = CLEAN_BARS.polars_schema
    rows = [row for pull in pulls for row in pull.rows()]
    return pl.DataFrame(rows, schema={name: types[name] for name in COLUMNS})


class Model:
    """The bitemporal truth by brute force: at any instant, each provider's latest word on each bar."""

    def __init__(self, pulls: Sequence[Pull]) -> None:
        self.pulls = sorted(pulls, key=lambda pull: (pull.at, pull.fetch_id))

    def as_of(self, moment: datetime) -> dict[Key, Value]:
        believed: dict[Key, Value] = {}
        for pull in self.pulls:
            if pull.at <= moment:
                for (symbol, session), value in pull.says:
                    believed[symbol, session, pull.provider] = value
        return believed

    def chains(self) -> dict[Key, list[tuple[datetime, datetime | None, Value]]]:
        """Versions by key: from, to, value; an instant at which nothing changed starts none."""
        chains: dict[Key, list[tuple[datetime, datetime | None, Value]]] = {}
        for moment in sorted({pull.at for pull in self.pulls}):
            for key, value in self.as_of(moment).items():
                chain = chains.setdefault(key, [])
                if not chain or chain[-1][2] != value:
                    if chain:
                        chain[-1] = (chain[-1][0], moment, chain[-1][2])
                    chain.append((moment, None, value))
        return chains


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'; SET threads = 1")
        schema.ensure(connection)
        yield connection


def emptied(connection: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
    connection.execute("DELETE FROM clean.bars_ledger")
    return connection


def told(connection: duckdb.DuckDBPyConnection, pulls: Sequence[Pull], batch: int = 1) -> Remembered:
    return remember(connection, BARS, frame(pulls), batch, classify_bars)


def chains(connection: duckdb.DuckDBPyConnection) -> dict[Key, list[tuple[datetime, datetime | None, Value]]]:
    found: dict[Key, list[tuple[datetime, datetime | None, Value]]] = {}
    rows = connection.execute(
        "SELECT symbol, session, provider, known_from, known_to, close, volume, provisional"
        " FROM clean.bars_ledger ORDER BY ALL"
    ).fetchall()
    for symbol, session, provider, start, end, *value in rows:
        found.setdefault((symbol, session, provider), []).append((start, end, tuple(value)))
    return found


def everything(connection: duckdb.DuckDBPyConnection) -> pl.DataFrame:
    """All versions; in which transactions they came, and how their changes were named then, is no part of a belief."""
    statement = "SELECT * EXCLUDE (batch, change_class) FROM clean.bars_ledger ORDER BY ALL"
    table = connection.execute(statement).to_arrow_table()
    return pl.DataFrame(table)


def believed(connection: duckdb.DuckDBPyConnection, moment: datetime) -> dict[Key, Value]:
    rows = connection.execute(
        "SELECT symbol, session, provider, close, volume, provisional FROM clean.bars_as_of(?)", [moment]
    ).fetchall()
    assert len({row[:3] for row in rows}) == len(rows)
    return {row[:3]: row[3:] for row in rows}


KEYS = st.tuples(st.sampled_from(["US:STOCK:A", "US:STOCK:B"]), st.sampled_from(DAYS[:3]))
VALUES = st.tuples(st.sampled_from([10.0, 11.0, 22.0]), st.sampled_from([None, 100]), st.booleans())


@st.composite
def histories(draw: st.DrawFn) -> list[Pull]:
    """Pulls of two providers in the order in which they were made; some at the same instant."""
    minutes = sorted(draw(st.lists(st.integers(0, 9), min_size=1, max_size=6)))
    return [
        Pull(
            f"f{number:02}",
            draw(st.sampled_from(["one", "two"])),
            instant(minute),
            tuple(draw(st.dictionaries(KEYS, VALUES, min_size=1, max_size=5)).items()),
        )
        for number, minute in enumerate(minutes)
    ]


laws = settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@laws
@given(histories(), st.data())
def test_the_ledger_believes_what_a_brute_force_model_believes(
    connection: duckdb.DuckDBPyConnection, pulls: list[Pull], data: st.DataObject
) -> None:
    emptied(connection)
    cuts = sorted(data.draw(st.sets(st.integers(1, len(pulls)))) | {len(pulls)})
    for batch, (first, last) in enumerate(zip([0, *cuts], cuts, strict=False), start=1):
        told(connection, pulls[first:last], batch)
    model = Model(pulls)
    assert chains(connection) == model.chains()
    for minute in data.draw(st.sets(st.integers(-1, 10), min_size=3, max_size=3)):
        assert believed(connection, instant(minute)) == model.as_of(instant(minute))


@laws
@given(histories(), st.data())
def test_any_order_of_arrival_gives_the_same_ledger(
    connection: duckdb.DuckDBPyConnection, pulls: list[Pull], data: st.DataObject
) -> None:
    told(emptied(connection), pulls)
    in_order = everything(connection)
    emptied(connection)
    known: list[Pull] = []
    for batch, pull in enumerate(data.draw(st.permutations(pulls)), start=1):
        # A late pull comes with the later ones of its provider, as `ingest.pending` sees to.
        later = [old for old in known if old.provider == pull.provider and old.at >= pull.at]
        told(connection, [pull, *later], batch)
        known.append(pull)
    assert chains(connection) == Model(pulls).chains()
    assert everything(connection).equals(in_order)


@laws
@given(histories(), st.integers(1, 3))
def test_remembering_pulls_again_adds_and_changes_nothing(
    connection: duckdb.DuckDBPyConnection, pulls: list[Pull], times: int
) -> None:
    told(emptied(connection), pulls)
    before = connection.execute("FROM clean.bars_ledger ORDER BY ALL").fetchall()
    for batch in range(2, 2 + times):
        done = told(connection, pulls, batch)
        assert done == Remembered(0, 0, frame(pulls).height)
    last = max(pull.at for pull in pulls)
    newest = [pull for pull in pulls if pull.at == last]
    assert told(connection, newest, 10) == Remembered(0, 0, frame(newest).height)
    assert connection.execute("FROM clean.bars_ledger ORDER BY ALL").fetchall() == before


@laws
@given(histories(), st.data())
def test_the_versions_of_a_bar_neither_overlap_nor_leave_a_hole_whatever_comes_late_and_alone(
    connection: duckdb.DuckDBPyConnection, pulls: list[Pull], data: st.DataObject
) -> None:
    emptied(connection)
    for batch, pull in enumerate(data.draw(st.permutations(pulls)), start=1):
        done = told(connection, [pull], batch)
        assert done.new + done.changed + done.unchanged == len(pull.says)
        assert min(done.new, done.changed, done.unchanged) >= 0
    for chain in chains(connection).values():
        for (start, end, value), (following, _, after) in pairwise(chain):
            assert start < following
            assert end == following
            assert value != after
        assert chain[-1][1] is None
    rows = connection.execute(
        "SELECT change_class = 'new', row_number() OVER (PARTITION BY symbol, session, provider ORDER BY known_from)"
        " FROM clean.bars_ledger"
    ).fetchall()
    assert all(named_new == (number == 1) for named_new, number in rows)


@laws
@given(histories(), st.data())
def test_a_newer_parser_replaces_what_every_pull_said(
    connection: duckdb.DuckDBPyConnection, pulls: list[Pull], data: st.DataObject
) -> None:
    read_again = [
        Pull(p.fetch_id, p.provider, p.at, tuple((key, data.draw(VALUES)) for key, _ in p.says)) for p in pulls
    ]
    told(emptied(connection), pulls, 1)
    told(connection, read_again, 2)
    replayed = everything(connection)
    told(emptied(connection), read_again)
    assert replayed.equals(everything(connection))


@laws
@given(histories(), histories(), st.booleans())
def test_a_build_that_follows_the_batch_numbers_misses_nothing(
    connection: duckdb.DuckDBPyConnection, first: list[Pull], second: list[Pull], again: bool
) -> None:
    """Incremental builds look only at keys with a version of a newer batch."""
    told(emptied(connection), first, 1)
    before = believed(connection, instant(99))
    told(connection, [Pull(p.fetch_id if again else f"g{p.fetch_id}", *_rest(p)) for p in second], 2)
    after = believed(connection, instant(99))
    touched = set(
        connection.execute("SELECT symbol, session, provider FROM clean.bars_ledger WHERE batch > 1").fetchall()
    )
    changed = {key for key in {*before, *after} if before.get(key) != after.get(key)}
    assert changed <= touched


def _rest(pull: Pull) -> tuple[Any, ...]:
    return pull.provider, pull.at, pull.says


def one(number: int, close: float, *, minute: int | None = None, day: date = DAYS[0], **fields: Any) -> Pull:
    volume, provisional = fields.get("volume", 100), fields.get("provisional", False)
    at = instant(number if minute is None else minute)
    return Pull(f"f{number:02}", "one", at, ((("US:STOCK:A", day), (close, volume, provisional)),))


def test_nothing_to_remember_is_no_work(connection: duckdb.DuckDBPyConnection) -> None:
    assert told(emptied(connection), []) == Remembered(0, 0, 0)


def test_the_same_value_again_costs_no_row(connection: duckdb.DuckDBPyConnection) -> None:
    told(emptied(connection), [one(1, 10.0)])
    assert told(connection, [one(2, 10.0)], 2) == Remembered(0, 0, 1)
    assert everything(connection).height == 1


def test_a_value_that_returns_is_a_version_of_its_own(connection: duckdb.DuckDBPyConnection) -> None:
    told(emptied(connection), [one(1, 10.0)])
    told(connection, [one(2, 11.0)], 2)
    told(connection, [one(3, 10.0)], 3)
    assert [value[0] for _, _, value in chains(connection)["US:STOCK:A", DAYS[0], "one"]] == [10.0, 11.0, 10.0]


def test_a_late_pull_with_a_value_known_since_makes_it_known_earlier(connection: duckdb.DuckDBPyConnection) -> None:
    told(emptied(connection), [one(1, 10.0), one(5, 11.0)])
    done = told(connection, [one(3, 11.0), one(5, 11.0)], 2)
    assert done == Remembered(0, 1, 1)
    assert chains(connection)["US:STOCK:A", DAYS[0], "one"] == [
        (instant(1), instant(3), (10.0, 100, False)),
        (instant(3), None, (11.0, 100, False)),
    ]


def test_the_change_that_brought_a_version_is_named(connection: duckdb.DuckDBPyConnection) -> None:
    day = DAYS[200]  # months before EPOCH plus some minutes, or within its ten days
    late = next(d for d in DAYS if EPOCH.date() - d <= timedelta(days=4))
    told(emptied(connection), [one(1, 10.0, day=day), one(1, 10.0, day=late)])
    told(connection, [one(2, 10.0 + 1e-9, day=day), one(2, 12.0, day=late)], 2)
    told(connection, [one(3, 15.0, day=day), one(3, 11.0, day=late, provisional=True)], 3)
    told(connection, [one(4, 15.0, day=day), one(4, 12.5, day=late)], 4)
    named = connection.execute(
        "SELECT session, list(change_class ORDER BY known_from) FROM clean.bars_ledger GROUP BY 1 ORDER BY 1"
    ).fetchall()
    assert named == [
        (day, ["new", "float_noise", "restatement"]),
        (late, ["new", "late_correction", "late_correction", "settled"]),
    ]


def test_a_history_multiplied_by_one_ratio_is_a_rebase(connection: duckdb.DuckDBPyConnection) -> None:
    closes = {day: 10.0 + number for number, day in enumerate(DAYS[:6])}
    whole = tuple((("US:STOCK:A", day), (close, 100, False)) for day, close in closes.items())
    halved = tuple((("US:STOCK:A", day), (close / 2, 100, False)) for day, close in list(closes.items())[:5])
    told(emptied(connection), [Pull("f1", "one", instant(1), whole)])
    told(connection, [Pull("f2", "one", instant(2), halved)], 2)
    named = connection.execute("SELECT change_class, count(*) FROM clean.bars_ledger GROUP BY 1 ORDER BY 1").fetchall()
    assert named == [("new", 6), ("rebase", 5)]


def test_corporate_actions_are_kept_by_the_same_law(tmp_path: Path) -> None:
    said = scripted("one")
    with Bench(Lake(tmp_path)) as bench:
        for minute, cash in ((1, 0.5), (2, 0.5), (3, 0.55)):
            body = answer([bar("A", DAYS[0], 10.0)], [action("A", DAYS[5], cash=cash)])
            bench.pull(said, body, instant(minute), (DAYS[0], DAYS[5]))
            bench.ingest("actions")
        versions = bench.frame("SELECT cash, change_class FROM clean.corporate_actions_ledger ORDER BY known_from")
        assert versions.rows() == [(0.5, "new"), (0.55, "restatement")]
        at = f"TIMESTAMPTZ '{instant(2)}'"
        assert bench.frame(f"SELECT cash FROM clean.corporate_actions_as_of({at})").rows() == [(0.5,)]
    assert ledger.LEDGERS["actions"] is ACTIONS
    assert classify_terms(pl.DataFrame({"cash": [1.0]})).to_list() == ["restatement"]


def test_a_late_pull_brings_the_later_ones_of_its_provider_along(tmp_path: Path) -> None:
    """Confirmations cost no row, so only the lake knows that a value was confirmed after a late pull."""
    said, other = scripted("one"), scripted("two")
    span = (DAYS[0], DAYS[0])
    with Bench(Lake(tmp_path)) as bench:
        late = bench.pull(said, answer([bar("A", DAYS[0], 11.0)]), instant(2), span)
        bench.connection.execute("CREATE TABLE held AS FROM raw.fetches; DELETE FROM raw.fetches")
        for minute in (1, 3):
            bench.pull(said, answer([bar("A", DAYS[0], 10.0)]), instant(minute), span)
        bench.pull(other, answer([bar("A", DAYS[0], 10.0)]), instant(4), span)
        assert bench.ingest().accepted == 3
        bench.connection.execute("INSERT INTO raw.fetches FROM held")  # as when a killed run is adopted late
        done = bench.ingest()
        assert (done.pulls, done.accepted, done.changed) == (2, 2, 2)
        chain = bench.frame("SELECT close FROM clean.bars_ledger WHERE provider = 'one' ORDER BY known_from")
        assert chain["close"].to_list() == [10.0, 11.0, 10.0]
        assert late.fetch_id in bench.frame("FROM ops.ingests")["fetch_id"]
        assert US.prefix == "US"


def test_a_rewritten_history_larger_than_a_row_group_is_kept_whole(tmp_path: Path) -> None:
    """DuckDB 1.5.5 loses a large insert that follows one of no rows into the same table and transaction."""
    sessions = pl.date_range(date(1990, 1, 1), date(2026, 1, 1), eager=True)
    keys = pl.DataFrame({"symbol": [f"US:STOCK:A{n}" for n in range(10)]}).join(
        sessions.to_frame("session"), how="cross"
    )
    assert keys.height > 122_880
    with duckdb.connect(str(tmp_path / "ledger.duckdb")) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.ensure(connection)
        for number, close in enumerate((10.0, 11.0), start=1):
            rows = keys.with_columns(
                provider=pl.lit("one"),
                **dict.fromkeys(("open", "high", "low", "close"), pl.lit(close)),
                volume=pl.lit(100),
                value=pl.lit(None, dtype=pl.Float64),
                adj_close=pl.lit(None, dtype=pl.Float64),
                currency=pl.lit("USD"),
                exchange=pl.lit(None, dtype=pl.String),
                price_basis=pl.lit("raw"),
                flags=pl.lit(0),
                provisional=pl.lit(value=False),
                known_from=pl.lit(datetime(2026, 1, number, tzinfo=UTC)),
                fetch_id=pl.lit(f"pull {number}"),
                payload_row=pl.int_range(pl.len()),
            )
            connection.begin()
            done = remember(connection, BARS, rows, number, classify_bars)
            connection.commit()
        assert done.changed == keys.height
        closes = "SELECT close, count(*) FROM clean.bars_ledger WHERE known_to IS {} NULL GROUP BY ALL"
        assert connection.execute(closes.format("")).fetchall() == [(11.0, keys.height)]
        assert connection.execute(closes.format("NOT")).fetchall() == [(10.0, keys.height)]
