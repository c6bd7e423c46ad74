"""What a user of the archive can rely on: every answer is kept as it came, nothing is lost, nothing is asked twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import DAYS, NOW, US, Clock, Scripted, acquire_all, answer, bar, house, registered, scripted
from vprism_pipelines.errors import CorruptLake, Malformed, NotFound, StorageUnwritable
from vprism_pipelines.providers.base import OVERLAP, Payload, Request
from vprism_pipelines.warehouse import pulls, schema
from vprism_pipelines.warehouse.acquire import universe
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.lake import Lake

SPAN = DAYS[0], DAYS[9]
REQUEST = Request("one", "bars", "us", "US:STOCK:A", "A", *SPAN, url="test:A", params={"x": "é"})


def payload(body: bytes, **fields: object) -> Payload:
    return Payload(**{"request": REQUEST, "status": 200, "body": body, "fetched_at": NOW, **fields})  # type: ignore[arg-type]


BODIES = st.binary(max_size=300) | st.sampled_from([b"\n", b"\n\n", b'{"a": 1}\n{"b": 2}', b"\x00" * 10, b""])
PAYLOADS = st.builds(
    payload,
    BODIES,
    status=st.sampled_from([0, 200, 429, 999]),
    headers=st.dictionaries(st.sampled_from(["content-type", "retry-after"]), st.text(max_size=5)),
    fetched_at=st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC)),
    latency_ms=st.floats(0, 1e6),
    error=st.none() | st.just("UNAVAILABLE"),
)


@settings(deadline=None, max_examples=40)
@given(st.lists(PAYLOADS, min_size=1, max_size=4))
def test_answers_come_back_byte_for_byte(tmp_path_factory: pytest.TempPathFactory, payloads: list[Payload]) -> None:
    lake = Lake(tmp_path_factory.mktemp("lake"))
    for one in payloads:
        lake.stage(one)
    assert sorted(lake.staged("one"), key=lambda p: p.fetch_id) == sorted(payloads, key=lambda p: p.fetch_id)
    path = lake.seal(payloads, "run-7")
    assert list(lake.payloads(path)) == payloads
    assert lake.staged("one") == []
    assert lake.payload_files() == [path]
    assert lake.run_of(path) == "run-7"
    assert lake.fetch_ids(path) == [one.fetch_id for one in payloads]
    assert list(lake.payloads(path, [payloads[-1].fetch_id])) == [payloads[-1]]


def test_a_file_that_has_its_name_is_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing under a final name appears before the last byte of it is written."""
    lake = Lake(tmp_path)
    written: list[str] = []
    rename = Path.rename

    def spy(self: Path, target: Path) -> Path:
        written.append(self.name)
        assert not Path(target).exists()
        assert self.stat().st_size > 0
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", spy)
    one = payload(b"body")
    lake.stage(one)
    lake.seal([one], "run")
    lake.write_rows("1/b.parquet", {"one_bars": pl.DataFrame({"fetch_id": ["f"]})})
    assert len(written) == 3
    assert all(name.startswith(".") and name.endswith(".tmp") for name in written)


def test_rows_come_back_for_the_pulls_asked_for(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    frame = pl.DataFrame({"fetch_id": ["f1", "f1", "f2"], "close": [1.0, 2.0, 3.0]})
    lake.write_rows("1/a.parquet", {"one_bars": frame.head(2)})
    lake.write_rows("1/b.parquet", {"one_bars": frame.tail(1)})
    names = ["1/a.parquet", "1/b.parquet", "1/a.parquet"]
    assert lake.rows("one_bars", names, ["f1", "f2"]).equals(frame)
    assert lake.rows("one_bars", names, ["f2"]).equals(frame.tail(1))


# --- damage ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def sealed(tmp_path: Path) -> tuple[Lake, Path]:
    """A lake and its one payload file; the body cannot be compressed, so it stands in the file as it is."""
    lake = Lake(tmp_path)
    return lake, tmp_path / lake.seal([payload(bytes(range(256)) * 4)], "run")


def truncated(content: bytes) -> bytes:
    return content[: len(content) // 2]


@pytest.mark.parametrize(
    "damage", [truncated, lambda content: b"", lambda content: b"not parquet" * 9, lambda content: content[:-1]]
)
def test_a_damaged_file_is_named_and_ends_with_status_50(
    sealed: tuple[Lake, Path], damage: Callable[[bytes], bytes]
) -> None:
    lake, path = sealed
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(CorruptLake, match="damaged") as caught:
        list(lake.payloads(str(path.relative_to(lake.root))))
    assert caught.value.exit_status == 50
    assert str(path) in str(caught.value.context["path"])
    assert "backup" in caught.value.hint


def test_a_missing_file_is_corruption(sealed: tuple[Lake, Path]) -> None:
    lake, path = sealed
    path.unlink()
    with pytest.raises(CorruptLake, match="missing"):
        list(lake.payloads(str(path.relative_to(lake.root))))
    with pytest.raises(CorruptLake, match="missing"):
        lake.rows("one_bars", ["1/none.parquet"], ["f"])


def test_a_flipped_byte_in_a_body_is_found(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    path = lake.seal([payload(b"good body")], "run")
    frame = pl.read_parquet(tmp_path / path)
    frame.with_columns(body=pl.lit(b"goad body")).write_parquet(tmp_path / path)
    with pytest.raises(CorruptLake, match="hash"):
        list(lake.payloads(path))


def test_a_flipped_byte_anywhere_never_yields_another_body(sealed: tuple[Lake, Path]) -> None:
    lake, path = sealed
    whole, name = path.read_bytes(), str(path.relative_to(lake.root))
    (original,) = lake.payloads(name)
    found = 0
    for place in range(4, len(whole) - 8, 37):  # the marks at both ends aside
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 0x40]) + whole[place + 1 :])
        try:
            (read,) = lake.payloads(name)
        except CorruptLake:
            found += 1
        else:
            assert read.body == original.body
    assert found > 5


def test_a_staged_answer_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    lake = Lake(tmp_path)
    lake.stage(payload(b"x"))
    (path,) = (tmp_path / "incoming" / "one").iterdir()
    path.write_bytes(b"{broken")
    with pytest.raises(CorruptLake, match="staged"):
        lake.staged("one")


def test_a_lake_that_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    lake = Lake(tmp_path / "file")
    for write in (
        lambda: lake.stage(payload(b"x")),
        lambda: lake.seal([payload(b"x")], "run"),
        lambda: lake.write_rows("1/a.parquet", {"one_bars": pl.DataFrame({"a": [1]})}),
    ):
        with pytest.raises(StorageUnwritable) as caught:
            write()
        assert caught.value.exit_status == 50
        assert "VPRISM_DATA_DIR" in caught.value.hint


def test_a_write_that_fails_leaves_no_draft(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, data: bytes) -> int:
        self.touch()
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(StorageUnwritable, match="No space left"):
        Lake(tmp_path).stage(payload(b"x"))
    assert list((tmp_path / "incoming" / "one").iterdir()) == []


# --- what is asked for ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.ensure(connection)
        yield connection


class Fixed(Scripted):
    name = "fixed"
    immutable = True


def archived(
    connection: duckdb.DuckDBPyConnection, ranges: list[tuple[date, date, datetime]], provider: str = "one"
) -> None:
    connection.execute("DELETE FROM raw.fetches")
    for number, (first, last, at) in enumerate(ranges):
        connection.execute(
            "INSERT INTO raw.fetches BY NAME SELECT ? AS fetch_id, ? AS provider, 'bars' AS dataset, 'us' AS market,"
            " 'US:STOCK:A' AS symbol, ?::DATE AS range_start, ?::DATE AS range_end, '{}' AS request, 200 AS status,"
            " ?::TIMESTAMPTZ AS fetched_at, 0 AS latency_ms, 0 AS bytes, '' AS sha256, '' AS lake_path, [] AS frames,"
            " 0 AS rows, '1' AS parser_version, 'run' AS run_id",
            [f"f{number}", provider, first, last, at],
        )


def planned(
    connection: duckdb.DuckDBPyConnection, provider: Scripted, start: date, end: date, now: datetime = NOW
) -> list[date]:
    """Every day asked for; a day asked for twice is there twice."""
    requests = pulls.plan(connection, provider, US, "bars", ["US:STOCK:A"], start, end, now)
    days = []
    for request in requests:
        assert request.start is not None
        assert request.end is not None
        assert request.start <= request.end
        days += [request.start + timedelta(days=n) for n in range((request.end - request.start).days + 1)]
    return days


DAY_NUMBERS = st.integers(0, 60)


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.tuples(DAY_NUMBERS, st.integers(0, 30), st.integers(-30, 20)), max_size=5),
    DAY_NUMBERS,
    st.integers(0, 30),
    st.booleans(),
)
def test_the_plan_is_exactly_what_is_missing_or_may_still_change(
    book: duckdb.DuckDBPyConnection,
    known: list[tuple[int, int, int]],
    first: int,
    length: int,
    immutable: bool,
) -> None:
    origin = NOW.date() - timedelta(days=60)
    day = [origin + timedelta(days=n) for n in range(120)]
    provider = Fixed() if immutable else scripted("one")()
    ranges = [(day[a], day[a + n], NOW + timedelta(days=min(0, late))) for a, n, late in known]
    archived(book, ranges, provider.name)
    settled = {at: next(d for d in reversed(DAYS) if d <= at.date()) for _, _, at in ranges} | {NOW: NOW.date()}
    reopened = day[119] if immutable else settled[NOW] - OVERLAP
    final = {d for a, b, at in ranges for d in day if a <= d <= b and d <= settled[at] and d <= reopened}
    wanted = {d for d in day if day[first] <= d <= day[first + length]} - final
    asked = planned(book, provider, day[first], day[first + length])
    assert sorted(asked) == sorted(wanted)


def test_the_last_five_sessions_are_asked_for_again(book: duckdb.DuckDBPyConnection) -> None:
    last = NOW.date()
    archived(book, [(DAYS[0], last, NOW)])
    asked = planned(book, scripted("one")(), DAYS[0], last)
    assert [day for day in DAYS if day in asked] == list(DAYS[-5:])


def test_what_never_changes_is_asked_for_once(book: duckdb.DuckDBPyConnection) -> None:
    archived(book, [(DAYS[0], NOW.date(), NOW)], "fixed")
    assert planned(book, Fixed(), DAYS[0], NOW.date()) == []


def test_a_session_pulled_while_it_ran_is_asked_for_again(book: duckdb.DuckDBPyConnection) -> None:
    noon = datetime(2024, 1, 10, 17, tzinfo=UTC)
    archived(book, [(DAYS[0], date(2024, 1, 10), noon)])
    assert planned(book, scripted("one")(), DAYS[0], date(2024, 1, 10)) == [date(2024, 1, 10)]


# --- acquiring ------------------------------------------------------------------------------------------------------


@pytest.fixture
def one() -> Iterator[type[Scripted]]:
    provider = scripted("one")
    with registered(provider):
        yield provider


@pytest.fixture
def place(tmp_path: Path) -> House:
    return house(tmp_path, universe={"us": ["A", "B", "C"]})


def fetches(place: House) -> pl.DataFrame:
    with place.warehouse.connect() as connection:
        return pl.DataFrame(connection.execute("FROM raw.fetches ORDER BY symbol, fetch_id").to_arrow_table())


def test_the_configured_universe_is_asked_for(place: House, one: type[Scripted]) -> None:
    with place.warehouse.connect() as connection:
        assert universe(place, connection, US, one()) == ["US:STOCK:A", "US:STOCK:B", "US:STOCK:C"]


def test_a_failing_answer_does_not_take_the_others_along(place: House, one: type[Scripted]) -> None:
    one.says = {"US:STOCK:A": answer([bar("A", DAYS[0], 10.0)]), "US:STOCK:B": b"<html>sorry</html>"}
    done = acquire_all(place, "one", SPAN)
    assert (done.requests, done.rows, done.failed["symbol"].to_list()) == (3, 1, ["US:STOCK:B"])
    assert fetches(place)["error_code"].to_list() == [None, "MALFORMED", None]
    assert place.lake.staged("one") == []
    one.asked.clear()
    one.says["US:STOCK:B"] = answer([bar("B", DAYS[0], 10.0)])
    acquire_all(place, "one", SPAN)
    assert [request.symbol for request in one.asked] == ["US:STOCK:B"]


def test_when_every_answer_fails_the_error_says_why_and_the_answers_are_kept(place: House, one: type[Scripted]) -> None:
    one.says = dict.fromkeys(["US:STOCK:A", "US:STOCK:B", "US:STOCK:C"], b"<html>sorry</html>")
    with pytest.raises(Malformed, match="the same for 2 other requests") as caught:
        acquire_all(place, "one", SPAN)
    assert caught.value.exit_status == 20
    assert "published warehouse is unchanged" in caught.value.hint
    assert fetches(place).height == 3
    (path,) = place.lake.payload_files()
    assert {answered.body for answered in place.lake.payloads(path)} == {b"<html>sorry</html>"}


def test_answers_of_a_killed_fetch_are_adopted_and_not_asked_for_again(place: House, one: type[Scripted]) -> None:
    one.says = {f"US:STOCK:{code}": answer([bar(code, DAYS[0], 10.0)]) for code in "ABC"}
    provider = one(clock=place.clock)
    requests = provider.plan("us", "bars", ["US:STOCK:A", "US:STOCK:B"], *SPAN, NOW)
    asyncio.run(pulls.fetch_all(provider, requests, place.lake))  # and then the process dies
    one.asked.clear()
    done = acquire_all(place, "one", SPAN)
    assert done.adopted == 2
    assert [request.symbol for request in one.asked] == ["US:STOCK:C"]
    assert fetches(place)["symbol"].to_list() == ["US:STOCK:A", "US:STOCK:B", "US:STOCK:C"]
    assert place.lake.staged("one") == []


def test_a_file_sealed_but_not_entered_is_adopted_with_its_run(place: House, one: type[Scripted]) -> None:
    place.lake.seal([payload(answer([bar("A", DAYS[0], 10.0)]), request=REQUEST)], "killed-run")
    done = acquire_all(place, "one", SPAN)
    assert (done.adopted, done.requests) == (1, 2)
    assert dict(fetches(place).select("symbol", "run_id").iter_rows())["US:STOCK:A"] == "killed-run"


def test_answers_killed_between_sealing_and_unstaging_are_entered_once(place: House, one: type[Scripted]) -> None:
    first = payload(answer([bar("A", DAYS[0], 10.0)]))
    place.lake.seal([first], "killed-run")
    place.lake.stage(first)
    assert acquire_all(place, "one", SPAN).adopted == 1
    assert place.lake.staged("one") == []
    files = place.lake.payload_files()
    assert sum(place.lake.fetch_ids(path).count(first.fetch_id) for path in files) == 1


def test_two_runs_that_sealed_the_same_answers_do_not_adopt_from_each_other_for_ever(
    place: House, one: type[Scripted]
) -> None:
    first = payload(answer([bar("A", DAYS[0], 10.0)]))
    place.lake.seal([first], "run-1")
    place.lake.seal([first], "run-2")
    assert acquire_all(place, "one", SPAN).adopted >= 1
    assert acquire_all(place, "one", SPAN).adopted == 0
    assert acquire_all(place, "one", SPAN).adopted == 0
    assert fetches(place).filter(pl.col("symbol") == "US:STOCK:A").height == 1


def test_rows_of_an_older_parser_are_forgotten_when_a_newer_one_has_read_the_answers(
    place: House, one: type[Scripted]
) -> None:
    """Both side by side would show every row of the provider twice in its raw view."""
    one.says = {"US:STOCK:A": answer([bar("A", DAYS[0], 10.0)])}
    acquire_all(place, "one", SPAN)
    (path,) = place.lake.payload_files()
    from vprism_pipelines.warehouse.acquire import register

    one.parser_version = "2"
    register(place, one(), list(place.lake.payloads(path)), path, "run")
    with place.warehouse.connect() as connection:
        schema.show_lake(connection, place.lake.root)
        assert connection.execute("SELECT count(*) FROM raw.one_bars").fetchone() == (1,)
    assert [file.parent.name for file in place.lake.root.glob("raw/*/*/*.parquet")] == ["2"]


def test_a_provider_that_knows_none_of_the_symbols_is_not_an_empty_success(
    place: House, one: type[Scripted], monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(self: Scripted, payload: Payload) -> None:
        raise NotFound("no such symbol")

    monkeypatch.setattr(one, "parse", unknown, raising=False)
    with pytest.raises(NotFound):
        acquire_all(place, "one", SPAN)


def test_nothing_before_the_market_began_or_after_today_is_asked_for(tmp_path: Path, one: type[Scripted]) -> None:
    clock = Clock(datetime(2026, 11, 23, 2, tzinfo=UTC))  # Monday in London, still Sunday in New York
    place = house(tmp_path, clock=clock, universe={"us": ["A"]})
    acquire_all(place, "one", (date(1900, 1, 1), date(2100, 1, 1)))
    (request,) = one.asked
    assert (request.start, request.end) == (US.first_session, date(2026, 11, 22))
