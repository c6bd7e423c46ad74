"""Who replaces a provider has proven itself beside it first, and can be sent back with one command."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from types import ModuleType

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.house import (
    DAYS,
    US,
    Clock,
    Scripted,
    acquire_all,
    answer,
    bar,
    equal,
    house,
    published_content,
    registered,
    scripted,
)
from vprism_pipelines.errors import DataQualityError, InvalidInput, UnknownProvider
from vprism_pipelines.providers.base import Parsed, Payload
from vprism_pipelines.quality.shadow import Gates, compare, sample
from vprism_pipelines.warehouse import rebuild, shadow
from vprism_pipelines.warehouse.candidates import read_again
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.ingest import clean_pulls, ingest, pending
from vprism_pipelines.warehouse.publish import publish

DAY = date(2026, 1, 5)
CODES = "AB"
ALL = shadow.Scope(share=1.0)


def bars(closes: dict[int, float]) -> pl.DataFrame:
    return pl.DataFrame(
        [{"symbol": "US:STOCK:A", "session": DAY + timedelta(days=n), "close": close} for n, close in closes.items()],
        schema={"symbol": pl.String, "session": pl.Date, "close": pl.Float64},
    )


# --- the comparison --------------------------------------------------------------------------------------------------


def test_a_value_on_a_limit_passes_and_one_beyond_it_fails() -> None:
    used = bars(dict.fromkeys(range(1000), 100.0))
    five_bp = bars(dict.fromkeys(range(995), 100.05))
    verdict = compare(used, five_bp)
    assert (verdict.price_diff_bp_p95, verdict.gap_ratio, verdict.row_diff_pct) == (5.0, 0.005, 0.5)
    assert verdict.passed
    assert not compare(used, bars(dict.fromkeys(range(995), 100.05001))).passed
    assert not compare(used, bars(dict.fromkeys(range(994), 100.0))).passed


def test_bars_that_only_the_candidate_has_count_too() -> None:
    verdict = compare(bars(dict.fromkeys(range(100), 100.0)), bars(dict.fromkeys(range(102), 100.0)))
    assert verdict.row_diff_pct == 2.0
    assert not verdict.passed
    assert compare(bars(dict.fromkeys(range(100), 100.0)), bars(dict.fromkeys(range(101), 100.0))).passed


def test_the_percentile_is_interpolated() -> None:
    apart = {n: 100.0 * (1 + n / 1e4) for n in range(1, 21)}  # 1 to 20 basis points
    assert compare(bars(dict.fromkeys(apart, 100.0)), bars(apart)).price_diff_bp_p95 == pytest.approx(19.05)


@pytest.mark.parametrize(("used", "candidate"), [({}, {1: 1.0}), ({1: 1.0}, {}), ({1: 1.0}, {2: 1.0}), ({}, {})])
def test_nothing_in_common_never_passes(used: dict[int, float], candidate: dict[int, float]) -> None:
    assert not compare(bars(used), bars(candidate), Gates(row_diff_pct=1e9, gap_ratio=1.0)).passed


@given(st.sets(st.text("ABC", min_size=1), min_size=1), st.floats(0, 1))
def test_a_sample_is_the_same_every_time_and_grows_with_its_share(symbols: set[str], share: float) -> None:
    drawn = sample(symbols, share)
    assert drawn == sample(sorted(symbols, reverse=True), share)
    assert set(drawn) <= set(sample(symbols, 1.0)) == symbols
    assert 1 <= len(drawn) <= max(1, round(share * len(symbols)))


# --- probation --------------------------------------------------------------------------------------------------------


class Doubling(Scripted):
    """Another parser of the answers of `one`: it reads every close a third of a basis point higher."""

    name = "one"
    parser_version = "2"

    def parse(self, payload: Payload) -> Parsed:
        frames = dict(super().parse(payload).frames)
        frames["bars"] = frames["bars"].with_columns(pl.col("close", "high") * 1.00003)
        return Parsed(frames)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def place(tmp_path: Path, clock: Clock) -> Iterator[House]:
    """Two providers that agree to a third of a basis point; `one` is ranked first."""
    one, two = scripted("one"), scripted("two")
    module = ModuleType("scripted_candidates")
    module.Doubling = Doubling  # type: ignore[attr-defined]
    with registered(one, two, alone=True), pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, module.__name__, module)
        yield house(tmp_path, clock=clock, universe={"us": list(CODES)})


def tell(place: House, clock: Clock, last: int, factor: float = 1.0) -> None:
    """A refresh on the evening of session number `last`, by both providers; `two` says everything times a factor."""
    clock.now = datetime.combine(DAYS[last], datetime.min.time(), UTC) + timedelta(hours=22)
    for name, scale in (("one", 1.0), ("two", 1.00003 * factor)):
        kind = type(place.parser(name))
        for code in CODES:
            days = [bar(code, day, (10.0 + n / 8) * scale) for n, day in enumerate(DAYS[: last + 1])]
            kind.says[f"US:STOCK:{code}"] = answer(days)
        acquire_all(place, name, (DAYS[0], DAYS[last]))
    remember(place)


def remember(place: House) -> None:
    with place.warehouse.connect() as connection:
        found = pending(connection, US, "bars")
    cleaned = clean_pulls(place.lake, US, "bars", found)
    with place.warehouse.transaction() as connection:
        ingest(connection, US, "bars", found, cleaned)


def compared(place: House, clock: Clock) -> pl.DataFrame:
    with place.warehouse.transaction() as connection:
        return shadow.run(connection, US, f"run-{clock.now:%Y%m%d}-{id(object())}", clock.now, ALL)


def speakers(place: House) -> list[str]:
    """Who speaks in the published golden bars."""
    frame = place.reader.query("SELECT DISTINCT chosen_provider FROM golden.bars ORDER BY 1")
    return frame["chosen_provider"].to_list()


def rebuilt(place: House) -> dict[str, pl.DataFrame]:
    rebuild.build(place, US)
    publish(place.warehouse, "test", place.clock())
    return published_content(place)


def prove(place: House, clock: Clock, days: range) -> None:
    for last in days:
        tell(place, clock, last)
        assert compared(place, clock)["passed"].all()


def test_a_provider_on_probation_is_remembered_but_not_believed(place: House, clock: Clock) -> None:
    tell(place, clock, 9)
    shadow.start(place, US, "two", against="one")
    tell(place, clock, 10)
    rebuilt(place)
    assert speakers(place) == ["one"]
    assert place.reader.query("SELECT count(*) FROM clean.bars WHERE provider = 'two'").item() == 11 * len(CODES)


def test_three_comparisons_of_new_data_allow_a_promotion_and_one_command_takes_it_back(
    place: House, clock: Clock
) -> None:
    tell(place, clock, 9)
    shadow.start(place, US, "two", against="one")
    prove(place, clock, range(10, 12))
    compared(place, clock)  # the same data again proves nothing
    with pytest.raises(DataQualityError, match="passed 2 of 3"):
        shadow.promote(place, US, "two")
    prove(place, clock, range(12, 13))
    before = rebuilt(place)
    assert speakers(place) == ["one"]
    shadow.promote(place, US, "two")
    after = rebuilt(place)
    assert speakers(place) == ["two"]
    assert not equal(before, after)
    clock.now += timedelta(minutes=1)
    shadow.rollback(place, US)
    assert equal(before, rebuilt(place))
    assert speakers(place) == ["one"]


def test_one_failure_begins_the_count_anew(place: House, clock: Clock) -> None:
    tell(place, clock, 9)
    shadow.start(place, US, "two", against="one")
    prove(place, clock, range(10, 12))
    tell(place, clock, 12, factor=1.01)
    assert not compared(place, clock)["passed"].any()
    prove(place, clock, range(13, 15))
    with pytest.raises(DataQualityError, match="passed 2 of 3"):
        shadow.promote(place, US, "two")


def test_another_parser_reads_the_archive_beside_the_one_in_use(place: House, clock: Clock) -> None:
    tell(place, clock, 9)
    started = shadow.start(place, US, "one", where="scripted_candidates:Doubling")
    assert (started.provider, started.against) == ("one@2", "one")
    for last in range(10, 13):
        tell(place, clock, last)
        assert read_again(place, US, "test") > 0
        assert read_again(place, US, "test") == 0
        remember(place)
        assert compared(place, clock)["passed"].all()
    rebuilt(place)
    assert "one@2" not in speakers(place)
    shadow.promote(place, US, "one@2")
    believed = rebuilt(place)
    assert speakers(place) == ["one@2"]
    read = place.reader.query("SELECT DISTINCT fetch_id FROM clean.bars WHERE provider = 'one@2'")["fetch_id"]
    assert read.str.ends_with("@2").all()
    report = rebuild.rebuild(place)
    assert report.identical
    assert equal(believed, published_content(place))


def test_roles_survive_the_loss_of_the_warehouse(place: House, clock: Clock) -> None:
    tell(place, clock, 9)
    shadow.start(place, US, "two", against="one")
    before = rebuilt(place)
    place.warehouse.path.unlink()
    rebuild.rebuild(place)
    assert equal(before, published_content(place))
    with duckdb.connect(str(place.settings.database), read_only=True) as connection:
        assert connection.execute("SELECT provider, role FROM ops.roles").fetchall() == [("two", "shadow")]


def test_nobody_is_promoted_or_put_on_probation_by_mistake(place: House, clock: Clock) -> None:
    tell(place, clock, 9)
    with pytest.raises(UnknownProvider):
        shadow.start(place, US, "three")
    with pytest.raises(InvalidInput, match="nobody in use"):
        shadow.start(place, US, "two", against="two")
    with pytest.raises(InvalidInput, match="no parser"):
        shadow.start(place, US, "one", where="nowhere:Nobody")
    with pytest.raises(InvalidInput, match="not on probation"):
        shadow.promote(place, US, "two")
    with pytest.raises(InvalidInput, match="no role was ever changed"):
        shadow.rollback(place, US)
