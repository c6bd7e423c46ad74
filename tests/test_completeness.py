"""What a user can rely on when a whole market is measured: what is missing, since when, on which exchange, of whom."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime
from itertools import pairwise
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market
from vprism_pipelines.quality.checks import Status
from vprism_pipelines.quality.datasets import CHECKS
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds, thresholds
from vprism_pipelines.tables import CLEAN_BARS, FACTOR_STEPS, GOLDEN_BARS, INSTRUMENTS, METRICS, Table
from vprism_pipelines.warehouse import golden, measures, schema
from vprism_pipelines.warehouse.measures import Measurement

VN = market("vn")
HOSE, HNX = (
    calendar(name).sessions(date(2023, 1, 3), date(2024, 6, 28))["session"].to_list() for name in ("HOSE", "HNX")
)
KNOWN = datetime(2024, 7, 1, tzinfo=UTC)
INDEX = "VN:INDEX:VNINDEX"
CODES = [f"VN:STOCK:{letter}{letter}{letter}" for letter in "ABCDEFGHIJKLMNOPQRSTUVWX"]


@pytest.fixture
def connection(tmp_path: Path) -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as opened:
        opened.execute("SET TimeZone = 'UTC'")
        schema.ensure(opened)
        golden.build_sessions(opened, VN, date(2024, 6, 28))
        yield opened


def put(connection: duckdb.DuckDBPyConnection, table: Table, rows: pl.DataFrame) -> None:
    """Rows into a table, what they do not say filled in with something plain."""
    plain = {"open": 1.0, "high": 1.0, "low": 1.0, "currency": "VND", "flags": 0, "provisional": False, "batch": 1}
    plain |= {"price_basis": "raw", "known_from": KNOWN, "change_class": "new", "fetch_id": "f", "payload_row": 0}
    plain |= {"n_sources": 1, "confidence": 1.0, "chosen_provider": "one", "volume": 1000, "close": 1.0}
    plain |= {"version": "1:0", "status": "applied", "cash": 0.0, "split_ratio": 1.0, "bonus_ratio": 0.0, "gap": False}
    plain |= {"rights_ratio": 0.0, "rights_value": 0.0, "inferred": False}
    filled = rows.with_columns(pl.lit(plain.get(name)).alias(name) for name in table.names if name not in rows.columns)
    connection.register("given", table.conform(filled))
    connection.execute(f"INSERT INTO {table.full_name} BY NAME FROM given")


def bars(symbol: str, days: Sequence[date], exchange: str | None = "HOSE", **columns: object) -> pl.DataFrame:
    return pl.DataFrame({"session": days}).with_columns(
        symbol=pl.lit(symbol), exchange=pl.lit(exchange, pl.String), **{k: pl.lit(v) for k, v in columns.items()}
    )


def tell(connection: duckdb.DuckDBPyConnection, *told: pl.DataFrame, provider: str = "one") -> None:
    """What a provider said, which golden believes where it has nothing yet."""
    rows = pl.concat(told, how="diagonal").with_columns(provider=pl.lit(provider))
    put(connection, CLEAN_BARS, rows)
    have = pl.DataFrame(connection.execute("SELECT symbol, session FROM golden.bars").to_arrow_table())
    put(connection, GOLDEN_BARS, rows.join(have, on=["symbol", "session"], how="anti"))


def measured(
    connection: duckdb.DuckDBPyConnection, check: str, provider: str = "*", rules: Thresholds = DEFAULTS
) -> Measurement:
    found = measures.coverage(connection, VN, rules)
    return next(one for one in found if (one.check, one.provider) == (check, provider))


def test_a_suspension_is_not_missing_and_a_gap_is(connection: duckdb.DuckDBPyConnection) -> None:
    gap, suspension = [HOSE[50], HOSE[51]], HOSE[100:140]
    tell(
        connection,
        bars("VN:STOCK:AAA", [day for day in HOSE if day not in gap]),
        bars("VN:STOCK:BBB", [day for day in HOSE if day not in suspension]),
        bars("VN:STOCK:CCC", HOSE[200:300]),
    )
    found = measured(connection, "completeness")
    expected = len(HOSE) + len(HOSE) - 40 + 100
    assert found.value == pytest.approx(2 / expected)
    assert found.evidence.select("missing", "suspensions", "worst").row(0) == (2, 1, "VN:STOCK:AAA 2")


@given(missing=st.sets(st.integers(1, 98), max_size=60))
@settings(max_examples=15, deadline=None)
def test_completeness_counts_every_gap_shorter_than_a_suspension(missing: set[int]) -> None:
    there = [n for n in range(100) if n not in missing]
    gaps = [later - earlier - 1 for earlier, later in pairwise(there)]
    short = sum(gap for gap in gaps if gap < 20)
    with duckdb.connect() as opened:
        schema.ensure(opened)
        golden.build_sessions(opened, VN, date(2024, 6, 28))
        tell(opened, bars("VN:STOCK:AAA", [HOSE[n] for n in there]))
        assert measured(opened, "completeness").value == pytest.approx(short / (len(there) + short))


def test_each_exchange_is_judged_by_its_own_calendar_and_thresholds(connection: duckdb.DuckDBPyConnection) -> None:
    tell(
        connection,
        bars("VN:STOCK:AAA", HOSE),
        bars("VN:STOCK:BBB", HNX[:100] + HNX[103:], "HNX"),
        bars("VN:STOCK:CCC", HNX[::3], "UPCOM"),
    )
    found = measured(connection, "completeness")
    statuses = dict(found.evidence.select("exchange", "status").iter_rows())
    assert statuses == {"HOSE": "OK", "HNX": "FAIL", "UPCOM": "OK"}, "rows without a trade may be left out on UPCOM"
    assert found.status is Status.FAIL
    lenient = thresholds({"completeness": {"HNX": {"warn": 0.005, "fail": 0.05}}})
    assert measured(connection, "completeness", rules=lenient).status is Status.WARN


def test_what_one_provider_lacks_another_may_have(connection: duckdb.DuckDBPyConnection) -> None:
    tell(connection, *(bars(code, HOSE[:100] + HOSE[101:]) for code in CODES))
    tell(connection, *(bars(code, HOSE) for code in CODES), provider="two")
    assert measured(connection, "completeness").value == 0
    assert measured(connection, "completeness", "one").value == pytest.approx(1 / len(HOSE))
    assert measured(connection, "whole_day_gap").value == 0
    gap = measured(connection, "whole_day_gap", "one")
    assert gap.evidence.select("session", "symbols").row(0) == (HOSE[100], 0)


def test_a_newest_session_that_is_half_there_fails_and_blocks_and_a_delisting_is_none(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    tell(connection, *(bars(code, HOSE if n < 10 else HOSE[:-1]) for n, code in enumerate(CODES)))
    found = measured(connection, "newest_session")
    assert found.value == pytest.approx(1 - 10 / len(CODES))
    assert found.status is Status.FAIL
    assert CHECKS["newest_session"].blocks
    assert measured(connection, "completeness_latest").value == pytest.approx(14 / 24)
    gone = pl.DataFrame({"symbol": CODES[10:], "delisted": [HOSE[-1]] * 14, "provider": ["one"] * 14})
    put(connection, INSTRUMENTS, gone)
    assert measured(connection, "completeness_latest").value == 0


def test_a_few_symbols_less_on_the_newest_session_are_shown_and_are_no_failure(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    tell(connection, *(bars(code, HOSE if n else HOSE[:-1]) for n, code in enumerate(CODES)))
    found = measured(connection, "completeness_latest")
    assert (found.status, found.evidence["who"][0]) == (Status.OK, CODES[0])


def test_symbols_that_vanish_together_are_told_from_delisted_ones(connection: duckdb.DuckDBPyConnection) -> None:
    tell(connection, *(bars(code, HOSE[:200] if n < 3 else HOSE) for n, code in enumerate(CODES)))
    found = measures.survivorship(connection, VN)
    assert found.value == pytest.approx(3 / 24)
    assert found.status is Status.WARN
    put(
        connection,
        INSTRUMENTS,
        pl.DataFrame({"symbol": CODES[:3], "delisted": [HOSE[200]] * 3, "provider": ["one"] * 3}),
    )
    assert measures.survivorship(connection, VN).value == 0


def test_an_index_that_moves_against_its_members_is_found_and_ex_dates_are_no_moves(
    connection: duckdb.DuckDBPyConnection,
) -> None:
    def moving(symbol: str, **moves: float) -> pl.DataFrame:
        close = [100.0 * moves.get(f"d{n}", 1.0) for n in range(60)]
        return bars(symbol, HOSE[:60]).with_columns(close=pl.Series(close))

    members = [moving(code, d30=1.05, **{f"d{n}": 0.5 for n in range(40, 60)}) for code in CODES]
    tell(connection, *members, moving(INDEX))
    steps = pl.DataFrame({"symbol": CODES, "ex_date": [HOSE[40]] * 24, "effective_session": [HOSE[40]] * 24})
    put(connection, FACTOR_STEPS, steps)
    found = measures.index_sanity(connection, VN)
    assert found.evidence["session"].to_list() == [HOSE[31], HOSE[30]], "there and back"


def test_a_pull_that_restates_many_symbols_at_once_is_a_warning(connection: duckdb.DuckDBPyConnection) -> None:
    tell(connection, *(bars(code, HOSE[:50]) for code in CODES))
    assert measures.revision_rate(connection, VN).value == 0
    restated = [bars(code, HOSE[10:12]) for code in CODES[:6]]
    later = pl.concat(restated).with_columns(
        provider=pl.lit("one"), change_class=pl.lit("restatement"), known_from=pl.lit(KNOWN.replace(day=2))
    )
    put(connection, CLEAN_BARS, later)
    found = measures.revision_rate(connection, VN)
    assert found.value == pytest.approx(0.25)
    assert found.status is Status.WARN


def test_a_measurement_is_kept_with_the_thresholds_that_judged_it(connection: duckdb.DuckDBPyConnection) -> None:
    tell(connection, bars("VN:STOCK:AAA", HOSE[:100] + HOSE[101:]))
    rules = thresholds({"completeness": {"HOSE": {"warn": 0.0001, "fail": 0.9}}})
    measures.record(connection, VN, measures.coverage(connection, VN, rules), "run", KNOWN)
    kept = connection.execute(
        f"SELECT status, warn, fail FROM {METRICS.full_name} WHERE metric = 'completeness' AND provider = '*'"
    ).fetchall()
    assert kept == [("WARN", 0.0001, 0.9)]
    assert [one.value for one in measures.row_checks({"price_order": 5}, 100) if one.check == "price_order"] == [0.05]
