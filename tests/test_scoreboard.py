"""What a reader of the scoreboard can rely on: a check is credited for what it finds, where it is, and for no more."""

from __future__ import annotations

from datetime import date, timedelta
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.warehouse_fixture import sample_house_fixture  # noqa: F401
from vprism_pipelines.errors import ContractViolation, InvalidInput, NoData
from vprism_pipelines.market.spec import US, VN
from vprism_pipelines.providers.faults import FAULTS, RUN, Faults
from vprism_pipelines.quality.scoreboard import FOUND, by_fault, false_positives, new, places, precision, recall
from vprism_pipelines.serving.cli.scoreboard import scoreboard
from vprism_pipelines.serving.cli.session import Session
from vprism_pipelines.warehouse.grounds import Ground, of_files, simulated
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.scoreboard import findings, measure

SPAN = (date(2022, 1, 4), date(2023, 12, 29))
A, B = "VN:STOCK:AAA", "VN:STOCK:BBB"
DAYS = [date(2024, 1, 1) + timedelta(day) for day in range(30)]
BARS = pl.DataFrame({"symbol": [A] * 30 + [B] * 30, "session": DAYS * 2})


@pytest.fixture(scope="module")
def ground() -> Ground:
    return simulated(VN, SPAN, "HOSE", symbols=60)


def labels(*rows: tuple[str, int, str, int | None]) -> pl.DataFrame:
    """symbol, day of the true bar, class, day where it stands."""
    return pl.DataFrame(
        [(symbol, DAYS[day], fault, None if seen is None else DAYS[seen]) for symbol, day, fault, seen in rows],
        schema={"symbol": pl.String, "session": pl.Date, "fault": pl.String, "seen_session": pl.Date},
        orient="row",
    )


def found(*rows: tuple[str, str, str | None, int | None]) -> pl.DataFrame:
    """check, severity, symbol, day."""
    return pl.DataFrame(
        [(check, severity, symbol, None if day is None else DAYS[day]) for check, severity, symbol, day in rows],
        schema=FOUND,
        orient="row",
    )


def credited(where: pl.DataFrame, findings: pl.DataFrame, severity: str = "INFO") -> float:
    together = recall(where, findings).filter(pl.col("check") == "*", pl.col("severity") == severity)
    share = together["recall"].item()
    assert isinstance(share, float)
    return share


ONE = places(labels((A, 5, "spike", 5), (A, 9, "spike", 9)), BARS)


def test_a_finding_counts_at_the_damaged_bar_and_not_beside_it() -> None:
    assert credited(ONE, found(("c", "FLAG", A, 5))) == 0.5
    assert credited(ONE, found(("c", "FLAG", A, 4), ("c", "FLAG", A, 6), ("c", "FLAG", B, 5))) == 0
    assert credited(ONE, found(("c", "FLAG", A, 5), ("d", "FLAG", A, 5), ("c", "FLAG", A, 9))) == 1


def test_what_blocks_a_symbol_or_a_session_or_everything_counts_for_the_bars_it_covers() -> None:
    where = places(labels((A, 5, "spike", 5), (B, 5, "spike", 5), (B, 7, "spike", 7), (A, 9, "spike", 9)), BARS)
    assert credited(where, found(("c", "BLOCK", A, None))) == 0.5
    assert credited(where, found(("c", "BLOCK", None, 5))) == 0.5
    assert credited(where, found(("c", "BLOCK", None, 6))) == 0
    assert credited(where, found(("c", "BLOCK", None, None))) == 1


def test_a_run_is_one_incident_and_its_ex_date_is_one_of_its_places() -> None:
    run = labels(*((A, day, "missed_split", day) for day in range(10, 14)))
    where = places(run, BARS)
    assert where["incident"].n_unique() == 1
    assert where["bars"].unique().to_list() == [4]
    assert where["session"].to_list() == DAYS[10:15]
    assert credited(where, found(("c", "FLAG", A, 14))) == 1
    assert credited(where, found(("c", "FLAG", A, 15), ("c", "FLAG", A, 9))) == 0


def test_a_run_at_the_end_of_the_history_has_no_ex_date() -> None:
    where = places(labels((A, 28, "missed_split", 28), (A, 29, "missed_split", 29)), BARS)
    assert where["session"].to_list() == DAYS[28:30]


def test_two_symbols_and_two_classes_are_never_one_run() -> None:
    where = places(labels((A, 29, "x", 29), (B, 0, "x", 0), (B, 1, "y", 1)), BARS)
    assert where["incident"].n_unique() == 3
    assert where["bars"].to_list() == [1, 1, 1]


def test_a_missing_bar_is_found_where_it_should_be_and_a_moved_one_also_where_it_stands() -> None:
    where = places(labels((A, 5, "missing_day", None), (B, 8, "date_shift", 7)), BARS)
    assert where.filter(fault="missing_day")["session"].to_list() == [DAYS[5]]
    assert where.filter(fault="date_shift")["session"].to_list() == [DAYS[7], DAYS[8]]


def test_what_fired_before_the_damage_is_no_merit_afterwards() -> None:
    clean = found(("c", "FLAG", A, 5), ("b", "BLOCK", A, None))
    after = found(("c", "FLAG", A, 5), ("b", "BLOCK", A, None), ("d", "FLAG", A, 9))
    assert new(after, clean).equals(found(("d", "FLAG", A, 9)))


def test_severities_add_up_from_the_gravest_and_each_check_keeps_its_own_share() -> None:
    seen = found(("q", "QUARANTINE", A, 5), ("i", "INFO", A, 9), ("i", "INFO", A, 5))
    assert [credited(ONE, seen, severity) for severity in ("BLOCK", "QUARANTINE", "FLAG", "INFO")] == [0, 0.5, 0.5, 1]
    rows = recall(ONE, seen).filter(pl.col("check") != "*").select("check", "found", "recall").rows()
    assert rows == [("q", 1, 0.5), ("i", 2, 1.0)]
    summary = by_fault(recall(ONE, seen)).row(0, named=True)
    assert (summary["stopped"], summary["flagged"], summary["found"]) == (0.5, 0.5, 1.0)
    assert summary["by"] == "i 100.0 %, q 50.0 %"


def test_a_class_that_nothing_finds_stays_on_the_board() -> None:
    summary = by_fault(recall(ONE, found())).row(0, named=True)
    assert (summary["incidents"], summary["found"], summary["by"]) == (2, 0.0, None)


def test_precision_blames_what_points_elsewhere_and_tells_what_was_there_before() -> None:
    clean = found(("c", "FLAG", B, 1), ("c", "FLAG", B, 2))
    after = found(*(("c", "FLAG", B, day) for day in (1, 2)), ("c", "FLAG", A, 5), ("c", "FLAG", A, 6))
    row = precision(ONE, after, clean).row(0, named=True)
    assert (row["fired"], row["fired_before"], row["hits"]) == (4, 2, 1)
    assert (row["precision"], row["precision_all"]) == (0.5, 0.25)


def test_a_place_that_two_checks_name_counts_once_for_both_together() -> None:
    after = found(("c", "FLAG", A, 5), ("d", "FLAG", A, 5), ("e", "QUARANTINE", A, 5))
    rows = {(row["check"], row["severity"]): row["fired"] for row in precision(ONE, after, found()).to_dicts()}
    assert rows == {
        ("e", "QUARANTINE"): 1, ("c", "FLAG"): 1, ("d", "FLAG"): 1, ("*", "QUARANTINE"): 1, ("*", "FLAG"): 1,
        ("*", "*"): 1,
    }  # fmt: skip


def test_false_positives_are_bars_covered_per_million_bars() -> None:
    clean = found(("b", "BLOCK", A, None), ("b", "BLOCK", None, 3), ("c", "FLAG", B, 3), ("c", "FLAG", B, 4))
    rows = {(row["check"], row["severity"]): row for row in false_positives(clean, BARS).to_dicts()}
    assert (rows["b", "BLOCK"]["findings"], rows["b", "BLOCK"]["rows"]) == (2, 31)
    assert rows["c", "FLAG"]["per_million"] == pytest.approx(2 / 60 * 1e6, abs=1e-6)
    assert rows["*", "*"]["rows"] == 32
    assert false_positives(found(), BARS).is_empty()


def test_frames_that_lack_a_column_are_refused() -> None:
    with pytest.raises(ContractViolation, match="seen_session"):
        places(labels().drop("seen_session"), BARS)
    with pytest.raises(ContractViolation, match="session"):
        false_positives(found(), BARS.drop("session"))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 2**60), rate=st.floats(0.002, 0.2), name=st.sampled_from(sorted(FAULTS)))
def test_an_oracle_scores_one_and_silence_scores_nought(ground: Ground, seed: int, rate: float, name: str) -> None:
    _, true = Faults(seed, rate, (name,)).inject(ground.bars)
    where = places(true, ground.bars)
    assert where["incident"].n_unique() == where.unique(["fault", "incident"])["bars"].sum() / (
        RUN if FAULTS[name].run else 1
    )
    oracle = true.select(check=pl.lit("oracle"), severity=pl.lit("QUARANTINE"), symbol="symbol", session="session")
    oracle = oracle.unique()
    assert credited(where, oracle, "QUARANTINE") == 1
    assert precision(where, oracle, oracle.clear())["precision"].to_list() == [1.0] * 3
    assert credited(where, oracle.clear()) == 0


def test_the_rules_of_the_simulated_exchange_quarantine_none_of_its_bars(ground: Ground) -> None:
    clean = findings(ground.bars, actions=ground.actions, spec=ground.spec)
    assert clean.schema == FOUND
    assert clean.filter(pl.col("severity").is_in(["BLOCK", "QUARANTINE"])).is_empty()


def test_a_shifted_delivery_is_blocked_as_a_whole(ground: Ground) -> None:
    early = ground.bars.with_columns(pl.col("session").dt.offset_by("-1d"))
    blocked = findings(early, actions=ground.actions, spec=ground.spec).filter(check="date_shift")
    assert blocked.rows() == [("date_shift", "BLOCK", None, None)]


def test_no_bars_have_no_findings(ground: Ground) -> None:
    assert findings(ground.bars.clear(), actions=ground.actions, spec=ground.spec).is_empty()


def test_the_checks_find_what_the_exchanges_rules_forbid(ground: Ground) -> None:
    sure = ("scale_1.2", "scale_10", "scale_1000", "sign", "high_low_swap", "duplicate", "volume_unit")
    told: list[str] = []
    board = measure(ground, seed=3, rate=0.02, classes=sure, progress=lambda name, _done, _total: told.append(name))
    shares = dict(board.faults.select("fault", "stopped").rows())
    assert set(shares) == set(sure)
    assert min(shares.values()) >= 0.99
    assert told == ["undamaged", *sure, "all classes"]
    assert (board.bars, board.symbols) == (ground.bars.height, ground.bars["symbol"].n_unique())
    stops = board.checks.filter(check="*", severity="QUARANTINE").row(0, named=True)
    assert stops["precision"] > 0.9
    assert stops["fired_before"] == 0


def test_the_same_seed_gives_the_same_board(ground: Ground) -> None:
    one, two = (measure(ground, seed=5, rate=0.01, classes=("missing_day", "date_shift")) for _ in range(2))
    assert one.faults.equals(two.faults)
    assert one.checks.equals(two.checks)
    assert one.recall.equals(two.recall)


def test_senseless_requests_are_refused(ground: Ground) -> None:
    with pytest.raises(InvalidInput, match="no exchange"):
        simulated(VN, SPAN, "NYSE", symbols=5)
    with pytest.raises(InvalidInput, match="no simulated"):
        simulated(US, SPAN)
    with pytest.raises(InvalidInput, match="no classes"):
        measure(ground, seed=1, classes=("rot",))


def test_files_are_read_through_their_mappings_and_tell_what_was_set_aside(tmp_path: Path) -> None:
    prices, listing, strange = (tmp_path / f"{name}.csv" for name in ("prices", "listing", "strange"))
    rows = ["2023-01-03,10,11,9,10,9,0,1000", "2023-01-04,10,11,9,10.5,9,0,1000", "2023-01-05,10,9,11,10,9,0,1000"]
    names = "symbol,date,GiaMoCua,GiaCaoNhat,GiaThapNhat,GiaDongCua,GiaDieuChinh,ThayDoi,KhoiLuongKhopLenh"
    prices.write_text("\n".join([names, *(f"FPT,{row}" for row in rows)]) + "\n")
    listing.write_text("symbol,name,sector1,exchange,listing_date\nFPT,FPT Corp,Technology,HOSE,1/4/2023\n")
    strange.write_text("alpha,beta\n1,2\n")
    ground = of_files([prices], VN, SPAN)
    assert ground.bars.select("symbol", "session", "close", "exchange").rows() == [
        ("VN:STOCK:FPT", date(2023, 1, 3), 10_000.0, None),
        ("VN:STOCK:FPT", date(2023, 1, 4), 10_500.0, None),
    ]
    assert "price_order 1" in ground.notes[0]
    listed = of_files([prices, listing], VN, SPAN, "HOSE")
    assert listed.bars["session"].to_list() == [date(2023, 1, 4)], "before the listing the exchange is unknown"
    with pytest.raises(NoData, match="no bars of HNX"):
        of_files([prices, listing], VN, SPAN, "HNX")
    with pytest.raises(NoData, match="no bars in listing"):
        of_files([listing], VN, SPAN)
    with pytest.raises(InvalidInput, match="no shipped mapping"):
        of_files([strange], VN, SPAN)


def test_the_command_answers_by_fault_by_check_and_by_both(sample_house: House) -> None:
    asked = {"market": "us", "classes": "scale_10, duplicate", "start": "2005-01-01", "end": "2006-12-29"}
    session = Session(given_house=sample_house)
    answer = scoreboard(session, **asked)
    assert answer.frame["fault"].to_list() == ["duplicate", "scale_10"]
    assert dict(answer.frame.select("fault", "found").rows())["duplicate"] == 1.0
    assert answer.aside is not None
    assert "per_million" in answer.aside.columns
    assert "4 symbols, seed 1" in answer.notes[-1], "one was not listed yet"
    assert scoreboard(session, **asked, by="check").frame.equals(answer.aside)
    both = scoreboard(session, **asked, by="both").frame
    assert {"fault", "check", "recall"} <= set(both.columns)
    with pytest.raises(InvalidInput, match="stands alone"):
        scoreboard(session, source=["simulated", "bars.csv"])


@pytest.mark.shared
def test_on_real_history_few_good_bars_are_stopped_and_gross_errors_are_found(shared_data: Path) -> None:
    ground = of_files(
        [shared_data / "vn_cafef_daily.parquet", shared_data / "vn_listing_sectors.parquet"],
        VN,
        (date(2021, 1, 1), date(2025, 8, 22)),
        "HOSE",
    )
    some = ground.bars["symbol"].unique().sort().gather_every(4)
    part = Ground(VN, ground.bars.filter(pl.col("symbol").is_in(some.implode())), ground.actions, ground.notes)
    board = measure(part, seed=2, classes=("scale_1.2", "scale_0.9", "scale_100"))
    shares = dict(board.faults.select("fault", "flagged").rows())
    assert shares["scale_1.2"] >= 0.99
    assert shares["scale_100"] >= 0.99
    assert shares["scale_0.9"] >= 0.9
    stopped = board.checks.filter(check="*", severity="QUARANTINE").row(0, named=True)
    assert stopped["per_million"] <= 100
