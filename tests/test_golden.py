"""What a user of the golden tables can rely on: they follow every change, and equal a rebuild from the archive."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given, settings

from tests.histories import HISTORIES, PROVIDERS, Telling, assert_equals_rebuilt, lived, rebuilt, tell
from tests.house import DAYS, Bench, action, answer, bar
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.tables import EVENTS, FACTOR_SETS, FACTOR_STEPS, GOLDEN_BARS
from vprism_pipelines.warehouse import golden
from vprism_pipelines.warehouse.factors import STAGE
from vprism_pipelines.warehouse.lake import Lake


@settings(deadline=None, max_examples=8)
@given(HISTORIES)
def test_living_through_any_history_gives_what_a_rebuild_from_the_lake_gives(history: list[Telling]) -> None:
    with TemporaryDirectory() as folder, Bench(Lake(Path(folder))) as bench:
        tell(bench, history)
        assert_equals_rebuilt(bench)
        ledger = bench.frame("SELECT * EXCLUDE (batch, change_class) FROM clean.bars_ledger ORDER BY ALL")
        for dataset in ("bars", "actions"):
            done = bench.ingest(dataset, again=True)  # a replay
            assert (done.new, done.changed, done.unchanged) == (0, 0, done.accepted)
        again = bench.frame("SELECT * EXCLUDE (batch, change_class) FROM clean.bars_ledger ORDER BY ALL")
        assert again.equals(ledger)


def test_deciding_symbol_by_symbol_gives_what_deciding_all_at_once_gives(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told = [Telling(name, ("A", "B"), 0, 20, 500, deltas) for name, deltas in (("one", ()), ("two", ((3, 0.5),)))]
    with lived(tmp_path, *told) as bench:
        monkeypatch.setattr(golden, "BLOCK_KEYS", 1)
        assert_equals_rebuilt(bench)


def evening(day: int, minutes: int = 0) -> datetime:
    """After the close of a session has settled."""
    return datetime.combine(DAYS[day], datetime.min.time(), UTC) + timedelta(hours=22, minutes=minutes)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(Lake(tmp_path))


def say(bench: Bench, provider: str, at: datetime, bars: dict[int, float], **fields: object) -> None:
    """A pull of symbol A: closes by index of the session."""
    body = answer([bar("A", DAYS[n], close, **fields) for n, close in bars.items()])
    bench.pull(PROVIDERS[provider], body, at, (DAYS[min(bars)], DAYS[max(bars)]))
    bench.refresh()


def golden_bars(bench: Bench) -> list[tuple[object, ...]]:
    return bench.frame("SELECT session, close, chosen_provider, n_sources FROM golden.bars ORDER BY session").rows()


def test_a_bar_of_one_provider_is_believed_with_its_unit_and_origin(bench: Bench) -> None:
    say(bench, "one", evening(0), {0: 10.0})
    (row,) = bench.frame("FROM golden.bars").to_dicts()
    assert (row["close"], row["volume"], row["currency"], row["price_basis"]) == (10.0, 1000, "USD", "raw")
    assert (row["chosen_provider"], row["n_sources"], row["confidence"], row["flags"]) == ("one", 1, 0.901, 0)
    assert row["known_from"] == evening(0)
    assert [*row] == GOLDEN_BARS.names


def test_a_provisional_bar_is_not_golden_until_it_settles(bench: Bench) -> None:
    noon = evening(3) - timedelta(hours=5)
    say(bench, "one", noon, {2: 10.0, 3: 11.0})
    assert [row[0] for row in golden_bars(bench)] == [DAYS[2]]
    say(bench, "one", evening(3), {2: 10.0, 3: 11.5})
    assert golden_bars(bench) == [(DAYS[2], 10.0, "one", 1), (DAYS[3], 11.5, "one", 1)]
    classes = bench.frame(
        "SELECT change_class FROM clean.bars_ledger WHERE provider = 'one' ORDER BY session, known_from"
    )
    assert classes["change_class"].to_list() == ["new", "new", "settled"]
    assert_equals_rebuilt(bench)


def test_a_late_correction_replaces_the_bar_and_nothing_else(bench: Bench) -> None:
    say(bench, "one", evening(3), {0: 10.0, 1: 11.0, 2: 12.0, 3: 13.0})
    say(bench, "one", evening(4), {1: 11.5, 4: 14.0})
    assert [row[1] for row in golden_bars(bench)] == [10.0, 11.5, 12.0, 13.0, 14.0]
    known = bench.frame("SELECT known_from FROM golden.bars ORDER BY session")["known_from"].to_list()
    assert known == [evening(3), evening(4), evening(3), evening(3), evening(4)]
    at = f"TIMESTAMPTZ '{evening(3, 1)}'"
    before = bench.frame(f"SELECT close FROM clean.bars_as_of({at}) ORDER BY session")
    assert before["close"].to_list() == [10.0, 11.0, 12.0, 13.0]


def test_a_flag_alone_shows_in_the_newest_quotes(bench: Bench) -> None:
    say(bench, "one", evening(3), {n: 10.0 + n for n in range(4)})
    say(bench, "two", evening(3, 5), {3: 9.0})
    shown = bench.frame("SELECT close, flags FROM analytics.latest").rows()
    assert shown == [(13.0, int(BarFlag.DISSENT))]
    assert_equals_rebuilt(bench)


def test_a_third_provider_settles_a_dispute(bench: Bench) -> None:
    say(bench, "one", evening(0), {0: 10.0})
    say(bench, "two", evening(0, 1), {0: 11.0})
    (row,) = bench.frame("FROM golden.bars").to_dicts()
    assert (row["chosen_provider"], row["n_sources"], row["confidence"]) == ("one", 2, 0.5)
    assert row["flags"] & BarFlag.DISSENT
    say(bench, "three", evening(0, 2), {0: 11.0})
    (row,) = bench.frame("FROM golden.bars").to_dicts()
    assert (row["close"], row["n_sources"], row["flags"] & BarFlag.DISSENT) == (11.0, 3, BarFlag.DISSENT)
    assert round(row["confidence"], 2) == 0.67  # two of three, and the outvoted one is trusted a little less
    assert_equals_rebuilt(bench)


def test_an_adjusted_price_is_golden_only_as_long_as_nobody_knows_the_raw_one(bench: Bench) -> None:
    """First seen a month later, it may have been rewritten meanwhile."""
    say(bench, "two", evening(20), {0: 5.0}, price_basis="adjusted_by_source")
    assert bench.frame("SELECT price_basis FROM golden.bars")["price_basis"].to_list() == ["adjusted_by_source"]
    say(bench, "one", evening(20, 1), {0: 10.0})
    (row,) = bench.frame("FROM golden.bars").to_dicts()
    assert (row["close"], row["price_basis"], row["n_sources"]) == (10.0, "raw", 1)
    assert_equals_rebuilt(bench)


def test_a_build_without_news_touches_nothing(bench: Bench) -> None:
    say(bench, "one", evening(1), {0: 10.0, 1: 11.0})
    before = golden.build_bars(bench.connection, bench.spec)
    assert (before.touched, before.written) == (0, 0)
    say(bench, "one", evening(2), {0: 10.0, 1: 11.0})
    assert golden.build_bars(bench.connection, bench.spec).touched == 0


def test_a_build_touches_only_what_changed(bench: Bench) -> None:
    say(bench, "one", evening(9), dict.fromkeys(range(10), 10.0))
    body = answer([bar("A", DAYS[n], 10.0 + (n == 4)) for n in range(10)])
    bench.pull(PROVIDERS["one"], body, evening(9, 5), (DAYS[0], DAYS[9]))
    bench.ingest()
    built = golden.build_bars(bench.connection, bench.spec)
    assert (built.touched, built.written) == (1, 1)


# --- events and factors ---------------------------------------------------------------------------------------------


def declare(bench: Bench, provider: str, at: datetime, *actions: dict[str, object], days: int = 10) -> None:
    body = answer([bar("A", DAYS[n], 10.0) for n in range(days)], actions)
    bench.pull(PROVIDERS[provider], body, at, (DAYS[0], DAYS[days - 1]))
    bench.refresh()


def steps(bench: Bench) -> list[tuple[object, ...]]:
    return bench.frame("SELECT ex_date, status, m, hfq FROM golden.factor_steps ORDER BY ex_date").rows()


def test_an_event_becomes_a_factor_step_and_every_symbol_has_a_version(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    assert steps(bench) == [(DAYS[5], "applied", 10 / 9, 10 / 9)]
    (row,) = bench.frame("FROM golden.factor_sets").to_dicts()
    assert row["version"].startswith("1:")
    assert row["n_events"] == 1
    assert row["built_at"] == evening(9)
    for table in (EVENTS, FACTOR_STEPS, FACTOR_SETS):
        assert bench.frame(f"FROM {table.full_name}").columns == table.names


def test_a_symbol_without_events_has_the_empty_version(bench: Bench) -> None:
    say(bench, "one", evening(0), {0: 10.0})
    assert bench.frame("SELECT version, n_events FROM golden.factor_sets").rows() == [("1:4f53cda18c2b", 0)]


def test_a_changed_event_gives_a_new_version_and_the_old_one_stays_in_the_ledger(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    (before,) = bench.frame("SELECT version FROM golden.factor_sets")["version"]
    declare(bench, "one", evening(10), action("A", DAYS[5], cash=2.0))
    (after,) = bench.frame("SELECT version FROM golden.factor_sets")["version"]
    assert before != after
    assert steps(bench) == [(DAYS[5], "applied", 10 / 8, 10 / 8)]
    assert bench.frame("SELECT cash FROM clean.corporate_actions_ledger ORDER BY known_from")["cash"].to_list() == [
        1,
        2,
    ]
    assert_equals_rebuilt(bench)


def test_the_same_events_again_give_no_new_version(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    before = bench.frame("FROM golden.factor_sets")
    declare(bench, "one", evening(10), action("A", DAYS[5], cash=1.0))
    assert bench.frame("FROM golden.factor_sets").equals(before)
    built = golden.build_factors(bench.connection, bench.spec)
    assert (built.written, built.detail["new versions"]) == (0, 0)


def test_an_event_waits_for_its_first_bar(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[12], cash=1.0))
    assert steps(bench) == [(DAYS[12], "pending", None, None)]
    declare(bench, "one", evening(12), action("A", DAYS[12], cash=1.0), days=13)
    assert steps(bench) == [(DAYS[12], "applied", 10 / 9, 10 / 9)]
    assert_equals_rebuilt(bench)


def test_a_corrected_close_before_an_ex_date_moves_the_factor(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    say(bench, "one", evening(10), {4: 20.0})
    assert steps(bench) == [(DAYS[5], "applied", 20 / 19, 20 / 19)]
    assert_equals_rebuilt(bench)


@pytest.mark.parametrize(
    ("session", "due"),
    [(0, 1), (3, 1), (4, 1), (5, 1), (6, 0), (10, 0)],
    ids=["first bar", "before", "last before", "ex-date", "after", "new session"],
)
def test_factors_are_computed_again_only_for_bars_up_to_the_last_ex_date(bench: Bench, session: int, due: int) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[3], cash=0.5), action("A", DAYS[5], cash=1.0))
    body = answer([bar("A", DAYS[session], 12.0)])
    bench.pull(PROVIDERS["one"], body, evening(10), (DAYS[session], DAYS[session]))
    bench.ingest()
    golden.build_bars(bench.connection, bench.spec)
    assert golden.build_factors(bench.connection, bench.spec).touched == due
    bench.refresh()
    assert_equals_rebuilt(bench)


def test_a_pending_event_is_looked_at_with_every_new_bar(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[12], cash=1.0))
    say(bench, "one", evening(10), {10: 20.0})
    assert steps(bench) == [(DAYS[12], "pending", None, None)]
    say(bench, "one", evening(13), {13: 20.0})
    assert steps(bench) == [(DAYS[12], "applied", 20 / 19, 20 / 19)]
    assert_equals_rebuilt(bench)


def test_another_algorithm_computes_every_factor_again(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    before = bench.frame("FROM golden.factor_sets")
    bench.connection.execute("UPDATE golden.factor_sets SET algorithm = 'another'")
    assert golden.build_factors(bench.connection, bench.spec).touched == before.height
    assert bench.frame("FROM golden.factor_sets").equals(before)


def test_a_warehouse_whose_factors_an_older_version_built_gets_them_whole_once(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], cash=1.0))
    bench.connection.execute(f"DELETE FROM ops.watermarks WHERE stage = '{STAGE}'")
    assert [golden.build_factors(bench.connection, bench.spec).touched for _ in range(2)] == [1, 0]


def test_appending_leaves_the_number_of_threads_as_it_was(bench: Bench) -> None:
    bench.connection.execute("SET threads = 3")
    say(bench, "one", evening(0), {0: 10.0})
    assert bench.frame("SELECT current_setting('threads') AS threads")["threads"].item() == 3


def test_a_first_bar_without_volume_is_no_contradiction(bench: Bench) -> None:
    """The first bar of a symbol is read twice when its second session is an ex-date."""
    body = answer([bar("A", DAYS[n], 10.0, volume=None) for n in range(4)], [action("A", DAYS[1], cash=1.0)])
    bench.pull(PROVIDERS["one"], body, evening(4), (DAYS[0], DAYS[3]))
    bench.refresh()
    assert steps(bench) == [(DAYS[1], "applied", 10 / 9, 10 / 9)]


def test_adjusted_prices_come_on_every_basis(bench: Bench) -> None:
    declare(bench, "one", evening(9), action("A", DAYS[5], event_type="split", split_ratio=2.0))
    at = f"SELECT basis, close, volume FROM golden.adjusted_bars WHERE session = DATE '{DAYS[0]}'"
    assert dict((basis, (close, volume)) for basis, close, volume in bench.frame(at).rows()) == {  # noqa: C402
        "raw": (10.0, 1000.0),
        "split": (5.0, 2000.0),
        "qfq": (5.0, 2000.0),
        "hfq": (10.0, 1000.0),
        "total_return": (5.0, 2000.0),
    }


def test_golden_lives_through_gaps_second_providers_and_a_rebuild(tmp_path: Path) -> None:
    history = [
        Telling("one", ("A", "B"), 0, 10, 22),
        Telling("two", ("A",), 3, 12, 22, deltas=((5, 0.5),)),
        Telling("one", ("A", "B"), 9, 8, 17, events=((4, (("cash", 0.5),)),)),
        Telling("three", ("B",), 0, 20, 500, untraded=(2,), events=((4, (("cash", 0.25),)),)),
        Telling("one", ("A",), 2, 3, 500, deltas=((3, -0.5),)),
    ]
    with lived(tmp_path, *history) as bench:
        assert_equals_rebuilt(bench)
        with rebuilt(bench.lake) as fresh:
            assert fresh.frame("SELECT count(*) AS n FROM golden.bars")["n"].item() > 30
