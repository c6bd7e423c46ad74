"""What a user can rely on when the warehouse compares its providers with each other, run after run."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import DAYS, NOW, US, Bench
from vprism_pipelines.errors import InvalidInput, NoData, UnknownProvider
from vprism_pipelines.tables import CLEAN_BARS
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.reconciliation import compare, query_of, standing, store, update

PAIR = ("one", "two")


@pytest.fixture(scope="module")
def shared_bench(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    return Bench(Lake(tmp_path_factory.mktemp("lake")))


@pytest.fixture
def bench(shared_bench: Bench) -> Bench:
    _forget(shared_bench)
    return shared_bench


def _forget(bench: Bench) -> None:
    for table in ("clean.bars_ledger", "quality.reconciliation_runs", "quality.reconciliation_diffs", "ops.watermarks"):
        bench.connection.execute(f"DELETE FROM {table}")


def tell(bench: Bench, provider: str, days: Iterable[int], batch: int, close: float = 10.0, **fields: Any) -> None:
    """Bars of a transaction, straight into the ledger; a bar that stands already is closed."""
    plain = {
        "symbol": "US:STOCK:A", "provider": provider, "volume": 1000, "currency": "USD", "price_basis": "raw",
        "flags": 0, "provisional": False, "known_from": NOW + timedelta(minutes=batch), "change_class": "new",
        "fetch_id": "f", "payload_row": 0, "batch": batch, **dict.fromkeys(("open", "high", "low", "close"), close),
    }  # fmt: skip
    rows = [plain | {"session": DAYS[n]} | fields for n in days]
    bench.connection.register("incoming", pl.DataFrame(rows, schema=CLEAN_BARS.polars_schema))
    bench.connection.execute(
        "UPDATE clean.bars_ledger AS l SET known_to = i.known_from FROM incoming AS i WHERE l.known_to IS NULL"
        " AND l.symbol = i.symbol AND l.session = i.session AND l.provider = i.provider"
    )
    bench.connection.execute("INSERT INTO clean.bars_ledger BY NAME SELECT * FROM incoming")
    bench.connection.unregister("incoming")


def kept(bench: Bench, columns: str = "* EXCLUDE (run_id)") -> pl.DataFrame:
    return bench.frame(f"SELECT {columns} FROM quality.reconciliation_diffs ORDER BY ALL")


def test_every_pair_is_compared_best_ranked_first_and_only_where_something_changed(bench: Bench) -> None:
    tell(bench, "files", range(5), 1)
    tell(bench, "yahoo", range(5), 2)
    tell(bench, "one", range(5), 3)
    assert update(bench.connection, US, "r1", NOW) == {
        ("yahoo", "files"): 5,
        ("yahoo", "one"): 5,
        ("files", "one"): 5,
    }
    assert update(bench.connection, US, "r2", NOW) == {}
    tell(bench, "one", [2], 4, close=11.0)
    assert set(update(bench.connection, US, "r3", NOW)) == {("yahoo", "one"), ("files", "one")}


def test_a_correction_settles_what_stood_as_a_difference(bench: Bench) -> None:
    tell(bench, "one", range(5), 1)
    tell(bench, "two", range(5), 2)
    tell(bench, "two", [3], 3, close=10.02)
    update(bench.connection, US, "r1", NOW)
    assert kept(bench, "session, close_bp_diff, status, reason, run_id").rows() == [
        (DAYS[3], -19.96008, "FAIL", "close", "r1")
    ]
    tell(bench, "two", [3], 4)
    update(bench.connection, US, "r2", NOW)
    assert kept(bench).is_empty()
    assert bench.frame("SELECT run_id, fail_count FROM quality.reconciliation_runs ORDER BY run_id").rows() == [
        ("r1", 1),
        ("r2", 0),
    ]


def test_a_session_that_one_side_lacks_is_a_difference_once_that_side_goes_on(bench: Bench) -> None:
    tell(bench, "one", range(100), 1)
    tell(bench, "two", range(3), 2)
    update(bench.connection, US, "r1", NOW)
    assert kept(bench).is_empty()
    tell(bench, "two", [90], 3)
    update(bench.connection, US, "r2", NOW)
    assert kept(bench, "DISTINCT reason, status").rows() == [("missing_source_b", "FAIL")]
    assert kept(bench).height == 87


def test_what_the_newest_sessions_say_is_the_verdict_whatever_long_ago_was_wrong(bench: Bench) -> None:
    tell(bench, "one", range(100), 1)
    tell(bench, "two", [*range(60), *range(60, 100)], 2)
    tell(bench, "two", range(0, 50), 3, close=11.0)
    update(bench.connection, US, "r1", NOW)
    verdict = standing(bench.connection, US)
    assert (verdict.value, verdict.status.value) == (0.0, "OK")
    assert bench.frame("SELECT status, fail_share FROM quality.reconciliation_runs").row(0) == ("FAIL", 0.5)
    tell(bench, "two", [99], 4, close=11.0)
    update(bench.connection, US, "r2", NOW)
    verdict = standing(bench.connection, US)
    assert (verdict.value, verdict.status.value) == (0.05, "FAIL")


def test_a_market_of_one_provider_has_no_verdict(bench: Bench) -> None:
    tell(bench, "one", range(5), 1)
    assert update(bench.connection, US, "r1", NOW) == {}
    assert standing(bench.connection, US).value is None


def test_prices_that_a_source_adjusted_are_not_compared(bench: Bench) -> None:
    tell(bench, "one", range(5), 1)
    tell(bench, "two", range(5), 2, close=5.0, price_basis="split_adjusted")
    assert update(bench.connection, US, "r1", NOW) == {}
    with pytest.raises(UnknownProvider, match="two has no bars as traded"):
        compare(query_of(bench.connection), US, PAIR)


def test_what_was_asked_for_replaces_only_the_sessions_and_symbols_it_looked_at(bench: Bench) -> None:
    for symbol, batch in (("US:STOCK:A", 1), ("US:STOCK:B", 3)):
        tell(bench, "one", range(10), batch, symbol=symbol)
        tell(bench, "two", range(10), batch + 1, close=11.0, symbol=symbol)
    update(bench.connection, US, "r1", NOW)
    part = compare(query_of(bench.connection), US, PAIR, start=DAYS[2], end=DAYS[4], sample=1)
    assert part.symbols is not None
    store(bench.connection, US, part, "asked", NOW)
    by_run = bench.frame(
        "SELECT run_id, count(*), count(DISTINCT symbol) FROM quality.reconciliation_diffs GROUP BY ALL ORDER BY ALL"
    ).rows()
    assert by_run == [("asked", 3, 1), ("r1", 17, 2)]
    verdict = standing(bench.connection, US)
    assert verdict.value == 1.0, "what was asked for is no verdict"
    assert bench.frame("SELECT scope, sample FROM quality.reconciliation_runs ORDER BY scope").rows() == [
        ("asked", 1),
        ("changes", None),
    ]


def test_what_cannot_be_compared_is_told(bench: Bench) -> None:
    tell(bench, "one", range(5), 1)
    tell(bench, "two", range(10, 15), 2)
    query = query_of(bench.connection)
    with pytest.raises(InvalidInput, match="with itself"):
        compare(query, US, ("one", "one"))
    with pytest.raises(UnknownProvider) as unknown:
        compare(query, US, ("one", "nobody"))
    assert "one, two" in unknown.value.hint
    with pytest.raises(NoData) as apart:
        compare(query, US, PAIR)
    assert str(DAYS[10]) in apart.value.hint


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(PAIR),
        st.sets(st.integers(0, 120), min_size=1, max_size=40),
        st.sampled_from([10.0, 10.0, 10.0, 10.006, 11.0]),
        st.sampled_from([1000, 1000, 1300, 0]),
    ),
    min_size=2,
    max_size=5,
)


@settings(deadline=None, max_examples=15)
@given(CHANGES)
def test_comparing_only_what_changed_finds_what_comparing_everything_finds(
    shared_bench: Bench, changes: list[tuple[str, set[int], float, int]]
) -> None:
    _forget(shared_bench)
    columns = "symbol, session, close_bp_diff, volume_ratio, status, reason"
    for batch, (provider, days, close, volume) in enumerate(changes, start=1):
        tell(shared_bench, provider, days, batch, close, volume=volume)
        update(shared_bench.connection, US, f"r{batch}", NOW)
    lived = kept(shared_bench, columns)
    for table in ("quality.reconciliation_diffs", "ops.watermarks"):
        shared_bench.connection.execute(f"DELETE FROM {table}")
    update(shared_bench.connection, US, "all", NOW)
    assert kept(shared_bench, columns).equals(lived)


@pytest.mark.shared
def test_two_histories_of_the_vietnamese_market_agree_on_nearly_every_close(shared_data: Path, tmp_path: Path) -> None:
    from vprism_pipelines.market.spec import VN

    with Bench(Lake(tmp_path), VN) as bench:
        for provider, file, close, volume in (
            ("cafef", "vn_cafef_daily", "GiaDongCua", "KhoiLuongKhopLenh"),
            ("vndirect", "vn_vndirect_close_asof_2021_02", "unadjusted", "volume"),
        ):
            bench.connection.execute(
                f"""INSERT INTO clean.bars_ledger BY NAME
                    SELECT 'VN:STOCK:' || symbol AS symbol, date AS session, '{provider}' AS provider, p AS open,
                           p AS high, p AS low, p AS close, v AS volume, 'VND' AS currency, 'raw' AS price_basis,
                           0 AS flags, false AS provisional, now() AS known_from, 'new' AS change_class,
                           'f' AS fetch_id, 0 AS payload_row, 1 AS batch
                    FROM (SELECT symbol, date, round({close} * 1000) AS p, {volume} AS v
                          FROM '{shared_data}/{file}.parquet' WHERE date >= DATE '2020-01-01')
                    WHERE p > 0 QUALIFY row_number() OVER (PARTITION BY symbol, date) = 1"""
            )
        assert update(bench.connection, VN, "r1", NOW)["cafef", "vndirect"] > 100_000
        run = bench.frame("FROM quality.reconciliation_runs").row(0, named=True)
        assert run["exact_share"] > 0.98
        assert run["p95_close_bp_diff"] == 0
