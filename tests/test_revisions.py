"""What a user of the revisions can rely on: every change has its reason, and a rebase its ratio and its ex-date."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from tests.house import DAYS, US, Bench, answer, bar, scripted
from vprism_pipelines.market.spec import VN, MarketSpec
from vprism_pipelines.quality.revisions import classify_bars
from vprism_pipelines.tables import CLEAN_BARS, REBASES
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.ledger import BARS, remember
from vprism_pipelines.warehouse.revisions import Revised, build_revisions
from vprism_pipelines.warehouse.writer import next_batch

ONE = scripted("one")
WRITTEN = ("known_to", "change_class", "batch")  # by the ledger
OLD = 300  # sessions that ended months before the pulls, so that no change of theirs is a late correction


@dataclass(frozen=True)
class Vintage:
    """The history as a provider tells it at one moment.

    Attributes:
        last: Index of the newest session.
        ratios: Factor of every event: index of the ex-date -> what sessions before it are multiplied by.
        closes: Sessions whose bar is multiplied by a factor of its own: a correction.
        volumes: Sessions with another volume.
        first: Index of the oldest session told about.
        missing: Sessions left out.
        decimals: What prices are rounded to.
        wait: Days after the newest session at which it is told.
    """

    last: int
    ratios: Mapping[int, float] = field(default_factory=dict)
    closes: Mapping[int, float] = field(default_factory=dict)
    volumes: Mapping[int, float] = field(default_factory=dict)
    first: int = 0
    missing: frozenset[int] = frozenset()
    decimals: int = 2
    wait: int = 0
    split: bool = False

    @property
    def at(self) -> datetime:
        return datetime.combine(DAYS[self.last] + timedelta(days=self.wait), time(22), UTC)

    def ratio(self, n: int) -> float:
        product = 1.0
        for ex_date, factor in self.ratios.items():
            product *= factor if n < ex_date else 1.0
        return product

    def rows(self) -> list[dict[str, Any]]:
        return [self.bar(n) for n in range(self.first, self.last + 1) if n not in self.missing]

    def bar(self, n: int) -> dict[str, Any]:
        close, scale = raw_close(n), self.ratio(n) * self.closes.get(n, 1.0)
        prices = {"open": close + 0.13, "high": close + 0.41, "low": close - 0.37, "close": close}
        volume = (10_000.0 + n) * self.volumes.get(n, 1.0) / (self.ratio(n) if self.split else 1.0)
        rounded = {name: round(price * scale, self.decimals) for name, price in prices.items()}
        return {"session": DAYS[n], **rounded, "volume": round(volume)}


def raw_close(n: int) -> float:
    return 40 + (n * 37 % 101) / 10


@dataclass
class Told:
    """A warehouse that heard some vintages."""

    bench: Bench

    def hear(self, vintage: Vintage) -> Revised:
        """What an ingest does, without the archive and the cleaning."""
        fetch_id = f"{vintage.at:%Y%m%d%H%M}"
        said = {
            "symbol": "US:STOCK:A", "provider": "one", "value": None, "adj_close": None, "currency": "USD",
            "exchange": None, "price_basis": "adjusted_by_source", "flags": 0, "provisional": False,
            "known_from": vintage.at, "fetch_id": fetch_id, "payload_row": 0,
        }  # fmt: skip
        kept = {name: kind for name, kind in CLEAN_BARS.polars_schema.items() if name not in WRITTEN}
        frame = pl.DataFrame([row | said for row in vintage.rows()], schema=kept)
        asked = {
            "fetch_id": fetch_id, "provider": "one", "dataset": "bars", "market": "us", "request": "{}", "status": 200,
            "range_start": DAYS[vintage.first], "range_end": DAYS[vintage.last], "fetched_at": vintage.at,
            "latency_ms": 0, "bytes": 0, "sha256": "", "lake_path": "", "frames": ["bars"], "rows": frame.height,
            "parser_version": "1", "run_id": "test",
        }  # fmt: skip
        connection = self.bench.connection
        names = ", ".join(f"${name} AS {name}" for name in asked)
        connection.execute(f"INSERT INTO raw.fetches BY NAME SELECT {names}", asked)
        remember(connection, BARS, frame, next_batch(connection), classify_bars)
        return self.judge()

    def pull(self, body: bytes, vintage: Vintage) -> None:
        self.bench.pull(ONE, body, vintage.at, (DAYS[vintage.first], DAYS[vintage.last]))
        self.bench.ingest()
        self.judge()

    def remember(self, rows: pl.DataFrame, at: datetime) -> None:
        """Rows of one pull that nobody asked for by date."""
        said = {
            "provider": "one", "value": None, "adj_close": None, "price_basis": "adjusted_by_source", "flags": 0,
            "provisional": False, "known_from": at, "fetch_id": f"{at:%Y%m%d}", "payload_row": 0,
        }  # fmt: skip
        frame = rows.with_columns(**{name: pl.lit(value) for name, value in said.items()})
        types = CLEAN_BARS.polars_schema
        kept = frame.select(pl.col(name).cast(types[name]) for name in CLEAN_BARS.names if name not in WRITTEN)
        connection = self.bench.connection
        remember(connection, BARS, kept, next_batch(connection), classify_bars)

    def judge(self, spec: MarketSpec = US) -> Revised:
        connection = self.bench.connection
        connection.begin()
        done = build_revisions(connection, spec)
        connection.commit()
        return done

    def classes(self) -> dict[tuple[int, datetime], str]:
        rows = self.bench.frame("SELECT session, known_from, change_class FROM clean.bars_ledger").iter_rows()
        return {(DAYS.index(session), known): name for session, known, name in rows}

    def of(self, vintage: Vintage) -> dict[int, str]:
        return {n: name for (n, known), name in self.classes().items() if known == vintage.at}

    def rebases(self) -> list[dict[str, Any]]:
        return self.bench.frame("FROM quality.rebases ORDER BY known_from, last_session").to_dicts()

    def everything(self) -> tuple[pl.DataFrame, pl.DataFrame]:
        order = ", ".join(REBASES.key)
        return (
            self.bench.frame("SELECT * EXCLUDE (batch) FROM clean.bars_ledger ORDER BY symbol, session, known_from"),
            self.bench.frame(f"FROM quality.rebases ORDER BY {order}"),
        )


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as bench:
        yield bench


@pytest.fixture
def told(bench: Bench) -> Told:
    return fresh(Told(bench))


def fresh(told: Told) -> Told:
    """Empty again, cheaper than another warehouse."""
    for table in ("clean.bars_ledger", "quality.rebases", "raw.fetches", "ops.ingests", "ops.watermarks"):
        told.bench.connection.execute(f"DELETE FROM {table}")
    return told


def heard(told: Told, *vintages: Vintage) -> Told:
    for vintage in vintages:
        told.hear(vintage)
    return told


# --- rebases ----------------------------------------------------------------------------------------------------------


def test_everything_before_an_ex_date_multiplied_by_one_ratio_is_a_rebase(told: Told) -> None:
    before, after = Vintage(29), Vintage(30, {30: 0.9917})
    heard(told, before, after)
    assert set(told.of(after).items()) == {*((n, "rebase") for n in range(30)), (30, "new")}
    (found,) = told.rebases()
    assert found["ratio_low"] <= 0.9917 <= found["ratio_high"]
    assert (found["first_session"], found["last_session"], found["rows"]) == (DAYS[0], DAYS[29], 30)
    assert found["ex_date"] == found["ex_date_latest"] == DAYS[30]
    assert found["factor"] == found["ratio"]
    assert found["spread"] < 0.005 / 40 * 2.1


def test_two_ex_dates_between_two_pulls_are_two_rebases_each_with_its_own_factor(told: Told) -> None:
    heard(told, Vintage(40), Vintage(40, {15: 0.9, 30: 0.98}, wait=1))
    first, second = told.rebases()
    assert (first["ex_date"], second["ex_date"]) == (DAYS[15], DAYS[30])
    assert first["ratio"] == pytest.approx(0.9 * 0.98, rel=2e-4)
    assert first["factor"] == pytest.approx(0.9, rel=4e-4)
    assert second["factor"] == second["ratio"] == pytest.approx(0.98, rel=2e-4)


def test_two_ex_dates_on_successive_sessions_are_found_as_one_with_the_factor_of_both(told: Told) -> None:
    heard(told, Vintage(40), Vintage(40, {15: 0.9, 16: 0.95, 30: 0.98}, wait=1))
    first, second = told.rebases()
    assert (first["ex_date"], second["ex_date"]) == (DAYS[15], DAYS[30])
    assert first["factor"] == pytest.approx(0.9 * 0.95, rel=4e-4)


def test_where_the_new_sessions_came_all_at_once_the_ex_date_is_a_range(told: Told) -> None:
    heard(told, Vintage(20), Vintage(25, {23: 0.9}))
    (found,) = told.rebases()
    assert found["last_session"] == DAYS[20]
    assert (found["ex_date"], found["ex_date_latest"]) == (DAYS[21], DAYS[25])


def test_a_rebase_before_its_ex_date_learns_the_date_from_the_next_session(told: Told) -> None:
    heard(told, Vintage(20), Vintage(20, {21: 0.9}, wait=1))
    assert told.rebases()[0]["ex_date"] is None
    heard(told, Vintage(21, {21: 0.9}, first=16))
    assert [found["ex_date"] for found in told.rebases()] == [DAYS[21]]


def test_a_pull_of_the_last_sessions_alone_rebases_them_and_a_later_one_the_rest(told: Told) -> None:
    heard(
        told,
        Vintage(29),
        Vintage(30, {30: 0.95}, first=25),
        Vintage(35, {30: 0.95}, first=28),
        Vintage(36, {30: 0.95, 36: 0.9}),
    )
    daily, older, newer = told.rebases()
    assert (daily["first_session"], daily["ex_date"], daily["rows"]) == (DAYS[25], DAYS[30], 5)
    assert (older["last_session"], older["ex_date"]) == (DAYS[24], DAYS[30])
    assert older["factor"] == pytest.approx(0.95, rel=3e-4)
    assert (newer["last_session"], newer["ex_date"]) == (DAYS[35], DAYS[36])


def test_missing_rows_do_not_hide_a_rebase(told: Told) -> None:
    heard(told, Vintage(40), Vintage(41, {41: 0.97}, missing=frozenset({3, 17, 40})))
    (found,) = told.rebases()
    assert (found["rows"], found["last_session"]) == (38, DAYS[39])


def test_a_split_may_multiply_volumes_too(told: Told) -> None:
    after = Vintage(30, {30: 0.5}, split=True)
    heard(told, Vintage(29), after)
    assert {name for n, name in told.of(after).items() if n < 30} == {"rebase"}
    assert told.rebases()[0]["volume_ratio"] == pytest.approx(2.0)


def test_a_volume_corrected_within_a_rebase_is_no_part_of_it(told: Told) -> None:
    after = Vintage(OLD + 1, {OLD + 1: 0.95}, volumes={7: 1.5})
    heard(told, Vintage(OLD), after)
    assert {n for n, name in told.of(after).items() if name == "restatement"} == {7}


def test_an_adjusted_close_is_rebased_by_itself(told: Told) -> None:
    def body(ratio: float, last: int) -> bytes:
        return answer(bar("A", DAYS[n], 20.0 + n, adj_close=round((20.0 + n) * ratio, 4)) for n in range(last + 1))

    for last, ratio in ((20, 1.0), (20, 0.97)):
        told.pull(body(ratio, last), Vintage(last, wait=int(ratio < 1)))
    (found,) = told.rebases()
    assert (found["field"], found["rows"]) == ("adj_close", 21)
    assert found["ratio"] == pytest.approx(0.97, rel=1e-5)


def test_bars_that_happen_to_share_a_ratio_among_others_that_stayed_are_no_rebase(told: Told) -> None:
    after = Vintage(OLD + 1, closes={10: 1.02, 60: 1.02, 110: 1.02, 160: 1.02})
    heard(told, Vintage(OLD), after)
    assert told.rebases() == []
    assert {told.of(after)[n] for n in (10, 60, 110, 160)} == {"restatement"}


def test_a_history_in_another_unit_is_an_error_and_no_rebase(told: Told) -> None:
    after = Vintage(30, closes=dict.fromkeys(range(30), 1000.0))
    heard(told, Vintage(29), after)
    assert told.rebases() == []
    assert {name for n, name in told.of(after).items() if n < 30} == {"error"}


# --- single bars ------------------------------------------------------------------------------------------------------


def test_a_change_within_ten_days_is_a_late_correction_and_later_a_restatement(told: Told) -> None:
    after = Vintage(OLD + 1, closes={OLD: 1.01, OLD - 3: 1.02, 5: 1.03})
    heard(told, Vintage(OLD), after)
    named = told.of(after)
    assert (named[OLD], named[OLD - 3], named[5]) == ("late_correction", "late_correction", "restatement")


def test_a_value_taken_back_soon_was_an_error(told: Told) -> None:
    wrong = Vintage(OLD + 1, closes={5: 1.03})
    heard(told, Vintage(OLD), wrong)
    assert told.of(wrong)[5] == "restatement"
    back = Vintage(OLD + 2)
    heard(told, back)
    assert told.of(wrong)[5] == "error"
    assert told.of(back)[5] == "restatement"


def test_a_value_taken_back_after_a_month_was_believed_for_a_reason(told: Told) -> None:
    changed = Vintage(OLD + 1, closes={5: 1.03})
    heard(told, Vintage(OLD), changed, Vintage(OLD + 40))
    assert told.of(changed)[5] == "restatement"


def test_a_rebase_taken_back_was_an_error_and_its_return_is_no_rebase(told: Told) -> None:
    wrong, back = Vintage(30, {30: 0.9}), Vintage(31)
    heard(told, Vintage(29), wrong, back)
    assert {name for n, name in told.of(wrong).items() if n < 30} == {"error"}
    assert "rebase" not in told.of(back).values()
    assert told.rebases() == []


def test_less_than_half_a_tick_and_two_percent_of_the_volume_is_noise(told: Told) -> None:
    body = {"open": 20.0, "high": 20.2, "low": 19.8, "exchange": "NYSE"}
    for number, (close, volume) in enumerate([(20.0, 10_000.0), (20.004, 10_150.0), (20.01, 10_150.0)]):
        told.pull(answer([bar("A", DAYS[5], close, **body, volume=volume)]), Vintage(OLD, wait=number, first=5))
    named = [name for _, name in sorted((known, name) for (_, known), name in told.classes().items())]
    assert named == ["new", "float_noise", "restatement"]


# --- laws -------------------------------------------------------------------------------------------------------------

laws = settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FACTORS = st.floats(0.5, 0.985).map(lambda factor: round(factor, 4))
OFF = st.sampled_from([0.97, 1.015, 1.04, 1.3])
# Each by a factor of its own: the oldest bars all changed by one factor are a rebase, and nobody could tell otherwise.
CORRECTIONS = st.dictionaries(st.integers(0, 60), OFF, max_size=4).filter(lambda off: len({*off.values()}) == len(off))


@laws
@given(
    st.dictionaries(st.integers(4, 60), FACTORS, max_size=3),
    CORRECTIONS,
    st.frozensets(st.integers(0, 60), max_size=2),
    st.integers(2, 4),
)
def test_every_change_of_a_random_history_gets_its_class_and_every_event_its_ratio_and_date(
    told: Told, events: dict[int, float], corrections: dict[int, float], missing: frozenset[int], decimals: int
) -> None:
    ends = [0, *sorted(events), 61]
    pieces = [range(first, last) for first, last in pairwise(ends)]
    # Each piece shows itself in bars that are neither corrected nor left out, those beside an ex-date among them.
    hidden = {*corrections, *missing}
    assume(all(len(set(piece) - hidden) >= 4 for piece in pieces))
    assume(not hidden & {n for ex_date in events for n in (ex_date - 1, ex_date)})
    before = Vintage(60, decimals=decimals)
    after = Vintage(60, events, corrections, missing=missing, decimals=decimals, wait=200)
    heard(fresh(told), before, after)
    named = told.of(after)
    for n in set(range(61)) - missing:
        if n in corrections:
            assert named[n] == "restatement"
        else:
            assert named.get(n) == ("rebase" if after.ratio(n) != 1 else None)
    found = told.rebases()
    assert [row["ex_date"] for row in found] == [DAYS[ex_date] for ex_date in sorted(events)]
    assert all(row["ex_date"] == row["ex_date_latest"] for row in found)
    for row, ex_date in zip(found, sorted(events), strict=True):
        assert row["ratio_low"] <= after.ratio(ex_date - 1) <= row["ratio_high"]
        assert row["ratio"] == pytest.approx(after.ratio(ex_date - 1), rel=10.0**-decimals / 30)


@st.composite
def lives(draw: st.DrawFn) -> list[Vintage]:
    """Vintages of one history in the order in which they were told, some of them in part."""
    events = dict(draw(st.dictionaries(st.integers(8, 50), FACTORS, max_size=3)))
    found, last = [], 12
    for number in range(draw(st.integers(2, 4))):
        last = min(last + draw(st.integers(0, 12)), 55)
        first = draw(st.sampled_from([0, 0, max(last - 6, 0)]))
        closes = draw(st.dictionaries(st.integers(first, last), OFF, max_size=2))
        known = {ex_date: factor for ex_date, factor in events.items() if ex_date <= last}
        missing = draw(st.frozensets(st.integers(first, last), max_size=2))
        found.append(Vintage(last, known, closes, first=first, missing=missing - {last}, wait=100 * number))
    return found


@laws
@given(lives())
def test_judged_pull_by_pull_or_all_at_once_the_ledger_says_the_same(told: Told, vintages: list[Vintage]) -> None:
    heard(fresh(told), *vintages)
    step_by_step = told.everything()
    assert told.judge() == Revised()  # nothing new, nothing done
    told.bench.connection.execute("DELETE FROM quality.rebases; DELETE FROM ops.watermarks")
    told.bench.connection.execute(
        "UPDATE clean.bars_ledger SET change_class = 'restatement' WHERE change_class <> 'new'"
    )
    told.judge()
    ledger, rebases = told.everything()
    assert ledger.rows() == step_by_step[0].rows()
    assert rebases.rows() == step_by_step[1].rows()


# --- as of ------------------------------------------------------------------------------------------------------------


@laws
@given(lives())
def test_as_of_the_first_pull_the_clean_table_is_what_the_first_import_gave(
    told: Told, vintages: list[Vintage]
) -> None:
    first, *rest = vintages
    heard(fresh(told), first)
    columns = "* EXCLUDE (batch)"
    imported = told.bench.frame(f"SELECT {columns} FROM clean.bars ORDER BY symbol, session, provider")
    heard(told, *(vintage for vintage in rest if vintage.at > first.at))
    then = f"clean.bars_as_of(TIMESTAMPTZ '{first.at}')"
    assert told.bench.frame(f"SELECT {columns} FROM {then} ORDER BY symbol, session, provider").equals(imported)


# --- real histories ---------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_events_of_real_vietnamese_shares_are_found_on_their_dates(told: Told, shared_data: Path) -> None:
    """Two vintages of adjusted prices, rounded as providers do: before and after the ex-dates of a year."""
    codes, since = ["FPT", "HPG", "VNM", "VCB", "SSI", "MWG", "REE", "GMD"], datetime(2023, 1, 1).date()
    until = datetime(2023, 12, 31).date()
    named = {"GiaMoCua": "open", "GiaCaoNhat": "high", "GiaThapNhat": "low", "GiaDongCua": "close"}
    bars = (
        pl.scan_parquet(shared_data / "vn_cafef_daily.parquet")
        .filter(pl.col("symbol").is_in(codes), pl.col("date").is_between(datetime(2021, 1, 1), until))
        .rename({**named, "date": "session", "KhoiLuongKhopLenh": "volume"})
        .select("symbol", "session", "open", "high", "low", "close", "volume")
        .collect()
        .sort("session")
    )
    events = (
        pl.scan_parquet(shared_data / "vn_cafef_implied_events.parquet")
        .filter(pl.col("symbol").is_in(codes), pl.col("ex_date").is_between(datetime(2021, 1, 5), until))
        .select("symbol", session="ex_date", factor=pl.col("factor_step_ref").round(4))
        .filter(pl.col("factor") < 1)
        .collect()
        .sort("symbol", "session")
    )
    for number, last in enumerate((since, until)):
        applied = events.filter(pl.col("session") < last).with_columns(
            pl.col("factor").cum_prod(reverse=True).over("symbol")
        )
        scaled = bars.join_asof(
            applied.sort("session"), on="session", by="symbol", strategy="forward", allow_exact_matches=False,
            check_sortedness=False,
        ).with_columns(
            ((pl.col(name) * pl.col("factor").fill_null(1.0)).round(2) * 1000).round(4) for name in named.values()
        )  # fmt: skip
        told.remember(
            scaled.with_columns(symbol="VN:STOCK:" + pl.col("symbol"), exchange=pl.lit("HOSE"), currency=pl.lit("VND")),
            datetime(2024, 1 + number, 5, tzinfo=UTC),
        )
    told.judge(VN)
    true = events.filter(pl.col("session") >= since).with_columns(symbol="VN:STOCK:" + pl.col("symbol"))
    found = told.bench.frame("SELECT symbol, ex_date AS session, factor, ex_date_latest FROM quality.rebases")
    both = true.join(found, on=["symbol", "session"], suffix="_found")
    assert both.height == true.height == found.height > 5
    assert both.filter(pl.col("session") != pl.col("ex_date_latest")).is_empty()
    assert both.select((pl.col("factor_found") / pl.col("factor") - 1).abs().max()).item() < 2e-4
    classes = told.bench.frame("SELECT DISTINCT change_class FROM clean.bars_ledger ORDER BY 1")
    assert classes["change_class"].to_list() == ["new", "rebase"]


@pytest.mark.shared
def test_a_recorded_dividend_is_found_to_the_four_digits_that_the_provider_rounds_it_to(
    told: Told, shared_fixtures: Path
) -> None:
    recorded = json.loads((shared_fixtures / "vn_vci/vci_gap_chart_VCB_1D_cash_dividend_2026-07-23.json").read_text())
    fields = {"o": "open", "h": "high", "l": "low", "c": "close"}
    now = pl.DataFrame(
        {name: [float(price) for price in recorded[0][key]] for key, name in fields.items()}
    ).with_columns(
        session=pl.Series([datetime.fromtimestamp(int(second), UTC).date() for second in recorded[0]["t"]]),
        volume=pl.Series(recorded[0]["v"]),
        symbol=pl.lit("VN:STOCK:VCB"),
        exchange=pl.lit("HOSE"),
        currency=pl.lit("VND"),
    )
    ex_date = datetime(2026, 7, 23).date()
    # As it was told before: prices on the tick.
    then = now.with_columns(
        pl.when(pl.col("session") < ex_date)
        .then((pl.col(name) / 0.9917 / 100).round() * 100)
        .otherwise(name)
        .alias(name)
        for name in fields.values()
    )
    told.remember(then, datetime(2026, 8, 1, tzinfo=UTC))
    told.remember(now, datetime(2026, 8, 4, tzinfo=UTC))
    told.judge(VN)
    (found,) = told.rebases()
    assert (found["ex_date"], found["ex_date_latest"], round(found["ratio"], 4)) == (ex_date, ex_date, 0.9917)
    assert found["rows"] == now.filter(pl.col("session") < ex_date).height
