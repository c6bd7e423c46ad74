"""What people can rely on when corporate actions are in doubt: what is found, what is proposed, and who decides."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from datetime import date, timedelta
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market.actions import EVENTS, merge_events
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import US, VN, MarketSpec
from vprism_pipelines.quality.action_proposals import PROPOSAL
from vprism_pipelines.quality.detective import detect
from vprism_pipelines.tables import REBASES

SESSIONS: tuple[date, ...] = tuple(calendar("XNYS").sessions(date(2022, 1, 3), date(2023, 3, 31))["session"])
EX = 120  # index of the ex-date that the tests are about
SYMBOL = "US:STOCK:AAA"

Terms = dict[str, Any]


def event(day: date, **terms: Any) -> Terms:
    return {"symbol": SYMBOL, "ex_date": day, "event_type": "cash", "provider": "one", "currency": "USD"} | terms


def events(rows: Sequence[Terms]) -> pl.DataFrame:
    full = pl.DataFrame(list(rows), schema_overrides=dict(EVENTS), infer_schema_length=None)
    missing = [pl.lit(None, dtype=dtype).alias(name) for name, dtype in EVENTS.items() if name not in full.columns]
    return full.with_columns(missing)


class Market:
    """One symbol whose true events are known, traded, and adjusted by two providers."""

    def __init__(self, truth: Sequence[Terms], seed: int = 1, spec: MarketSpec = US, noise: float = 0.004) -> None:
        self.spec, chance = spec, random.Random(seed)
        self.truth = events(truth) if truth else events([event(SESSIONS[0])]).clear()
        level, rows = 40.0, []
        happened = {row["ex_date"]: row for row in self.truth.iter_rows(named=True)}
        for day in SESSIONS:
            if row := happened.get(day):
                shares = (row["split_ratio"] or 1.0) * (1 + (row["bonus_ratio"] or 0.0))
                level = (level - (row["cash"] or 0.0)) / shares
            opened = level * (1 + chance.gauss(0, noise))
            level = round(opened * (1 + chance.gauss(0, noise)), 4)
            rows.append((SYMBOL, day, None, opened, max(opened, level), min(opened, level), level, True))
        columns = ["symbol", "session", "exchange", "open", "high", "low", "close", "traded"]
        types = {"exchange": pl.String}
        self.bars = pl.DataFrame(rows, schema=columns, orient="row", schema_overrides=types)
        self.adjusted = pl.concat(self.series(self.truth, name) for name in ("one", "two"))

    def series(self, account: pl.DataFrame, provider: str) -> pl.DataFrame:
        """A provider's adjusted closes if this were what happened."""
        steps = factor_sets(merge_events(account, []), self.bars, "USD").steps
        effects = {row["effective_session"]: row["m"] for row in steps.iter_rows(named=True) if row["m"]}
        closes, factor, made = self.bars["close"].to_list(), 1.0, []
        for day, close in zip(reversed(SESSIONS), reversed(closes), strict=True):
            made.append((provider, SYMBOL, day, close, round(close / factor, 6), True))
            factor *= effects.get(day, 1.0)
        names = ["provider", "symbol", "session", "close", "adj_close", "traded"]
        return pl.DataFrame(made, schema=names, orient="row")

    def proposals(self, declared: Sequence[Terms], **evidence: Any) -> list[dict[str, Any]]:
        """What the detective says of an account of the events."""
        said = events(declared) if declared else self.truth.clear()
        standing = merge_events(said, ["one", "two"])
        steps = factor_sets(standing, self.bars, "USD").steps
        adjusted = evidence.pop("adjusted", self.adjusted)
        found = detect(standing, steps, self.bars, adjusted, self.spec, declared=said, **evidence)
        assert found.columns == list(PROPOSAL)
        return [
            row | {name: json.loads(row[name]) for name in ("proposed", "evidence")}
            for row in found.iter_rows(named=True)
        ]


DIVIDEND = event(SESSIONS[EX], cash=1.2)
SPLIT = event(SESSIONS[EX], event_type="split", split_ratio=2.0)
NOTHING: list[Terms] = []


@pytest.mark.parametrize("truth", [NOTHING, [DIVIDEND], [SPLIT], [DIVIDEND, event(SESSIONS[EX + 63], cash=0.3)]])
def test_what_was_declared_rightly_is_left_alone(truth: list[Terms]) -> None:
    assert Market(truth).proposals(truth) == []


@pytest.mark.parametrize(
    ("truth", "terms"),
    [(DIVIDEND, {"event_type": "cash", "cash": 1.2}), (SPLIT, {"event_type": "split", "split_ratio": 2.0})],
)
def test_an_event_that_nobody_declared_is_proposed_with_its_terms(truth: Terms, terms: Terms) -> None:
    (found,) = Market([truth]).proposals([])
    assert (found["kind"], found["ex_date"], found["declared"]) == ("missing", SESSIONS[EX], None)
    (proposed,) = found["proposed"]
    assert {name: proposed[name] for name in terms} == pytest.approx(terms)
    assert found["confidence"] > 0.9


@pytest.mark.parametrize("days", [7, 11, 17])
def test_the_same_dividend_declared_twice_is_a_duplicate_where_the_series_did_not_move(days: int) -> None:
    again = event(SESSIONS[EX] + timedelta(days=days), cash=1.2)
    (found,) = Market([DIVIDEND]).proposals([DIVIDEND, again])
    assert (found["kind"], found["ex_date"], found["proposed"]) == ("duplicate", again["ex_date"], [])
    assert found["evidence"]["same_as"] == SESSIONS[EX].isoformat()


def test_the_copy_that_comes_first_can_be_the_wrong_one() -> None:
    early = event(SESSIONS[EX] - timedelta(days=9), cash=1.2)
    (found,) = Market([DIVIDEND]).proposals([early, DIVIDEND])
    assert (found["kind"], found["ex_date"]) == ("duplicate", early["ex_date"])


def test_two_equal_amounts_on_one_day_are_one_if_prices_moved_once() -> None:
    twice = [DIVIDEND | {"detail": "second of 2022"}, DIVIDEND | {"detail": "final of 2021"}]
    (found,) = Market([DIVIDEND]).proposals(twice)
    assert (found["kind"], found["proposed"][0]["cash"]) == ("duplicate", 1.2)
    assert Market([DIVIDEND | {"cash": 2.4}]).proposals(twice) == []


@pytest.mark.parametrize("bars", [-5, -2, -1, 1, 3, 5])
def test_an_event_declared_for_another_day_is_moved_to_where_it_happened(bars: int) -> None:
    (found,) = Market([DIVIDEND]).proposals([DIVIDEND | {"ex_date": SESSIONS[EX + bars]}])
    assert (found["kind"], found["ex_date"]) == ("misdated", SESSIONS[EX + bars])
    (proposed,) = found["proposed"]
    assert (proposed["ex_date"], proposed["cash"]) == (SESSIONS[EX].isoformat(), 1.2)


@pytest.mark.parametrize("scale", [10.0, 0.1, 100.0, 0.01, 1000.0, 0.001, 1.1, 0.5])
def test_an_amount_in_another_unit_or_of_another_size_is_set_right(scale: float) -> None:
    (found,) = Market([DIVIDEND]).proposals([DIVIDEND | {"cash": 1.2 * scale}])
    assert found["kind"] == "mis_sized"
    assert found["proposed"][0]["cash"] == pytest.approx(1.2, rel=0.01)
    assert found["event_type"] == "cash"


def test_the_size_that_another_provider_declares_is_preferred_when_it_fits() -> None:
    (found,) = Market([DIVIDEND]).proposals([DIVIDEND | {"cash": 0.9}, DIVIDEND | {"provider": "two"}])
    assert (found["kind"], found["evidence"]["as_declared_by"], found["proposed"][0]["cash"]) == (
        "mis_sized",
        "two",
        1.2,
    )


def test_an_event_that_never_happened_is_proposed_to_be_struck_out() -> None:
    (found,) = Market([]).proposals([DIVIDEND])
    assert (found["kind"], found["proposed"]) == ("invented", [])
    assert found["evidence"]["series_for"] == 2


def test_prices_alone_can_refute_an_event_but_with_less_confidence() -> None:
    lone = Market([])
    (found,) = lone.proposals([SPLIT], adjusted=lone.adjusted.clear())
    with_series = lone.proposals([SPLIT])[0]
    assert (found["kind"], found["evidence"]["adjusted_series"]) == ("invented", "none")
    assert found["confidence"] < with_series["confidence"]


def test_a_broken_limit_tells_that_an_event_is_missing_but_not_which() -> None:
    findings = pl.DataFrame(
        {"symbol": [SYMBOL], "session": [SESSIONS[EX]], "ticket": ["missing_event"], "jump": [0.8]},
    )
    truth = event(SESSIONS[EX], event_type="bonus", bonus_ratio=0.25)
    world = Market([truth])
    (found,) = world.proposals([], adjusted=world.adjusted.clear(), findings=findings)
    assert (found["kind"], found["ex_date"], found["proposed"]) == ("missing", SESSIONS[EX], [])
    assert found["evidence"]["proposed_multiplier"] == pytest.approx(1.25, rel=0.03)


def test_a_rewritten_history_tells_of_a_missing_event() -> None:
    world = Market([SPLIT])
    rebase = {
        "symbol": SYMBOL, "provider": "three", "field": "prices", "ratio": 0.5, "factor": 0.5, "spread": 1e-5,
        "ratio_low": 0.4999, "ratio_high": 0.5001, "ex_date": SESSIONS[EX],
    }  # fmt: skip
    rebases = pl.DataFrame([rebase], schema=REBASES.polars_schema)
    (found,) = world.proposals([], adjusted=world.adjusted.clear(), rebases=rebases)
    assert (found["kind"], found["ex_date"], found["proposed"][0]["split_ratio"]) == ("missing", SESSIONS[EX], 2.0)
    assert world.proposals([SPLIT], adjusted=world.adjusted.clear(), rebases=rebases) == []


def test_a_slip_that_the_series_takes_back_is_no_event() -> None:
    world = Market([])
    slip = pl.col("session").is_between(SESSIONS[EX], SESSIONS[EX + 3])
    slipped = world.adjusted.with_columns(
        pl.when(slip).then(pl.col("adj_close") * 0.9).otherwise("adj_close").alias("adj_close")
    )
    assert world.proposals([], adjusted=slipped) == []


def test_series_that_contradict_each_other_leave_little_confidence() -> None:
    world = Market([DIVIDEND])
    torn = pl.concat([world.series(world.truth, "one"), world.series(world.truth.clear(), "two")])
    assert world.proposals([DIVIDEND], adjusted=torn) == []
    (found,) = world.proposals([], adjusted=torn)
    assert (found["evidence"]["adjusted_series"], found["confidence"]) == ("split", 0.5)


def test_somebodys_decision_is_not_questioned() -> None:
    struck = event(SESSIONS[EX], provider="detective", cash=0.0)
    assert Market([DIVIDEND]).proposals([DIVIDEND, struck]) == []
    resized = event(SESSIONS[EX], provider="detective", cash=5.0)
    assert Market([DIVIDEND]).proposals([DIVIDEND, resized]) == []


def test_a_finding_keeps_its_name_from_run_to_run() -> None:
    wrong = [DIVIDEND | {"cash": 12.0}]
    world = Market([DIVIDEND])
    first, second = world.proposals(wrong)[0], world.proposals(wrong)[0]
    assert first == second
    shorter = world.adjusted.filter(pl.col("session") > SESSIONS[5])
    assert world.proposals(wrong, adjusted=shorter)[0]["proposal_id"] == first["proposal_id"]
    assert world.proposals([DIVIDEND | {"cash": 24.0}])[0]["proposal_id"] != first["proposal_id"]


def test_nothing_declared_and_no_prices_is_nothing_to_say() -> None:
    empty = Market([])
    empty.bars, empty.adjusted = empty.bars.clear(), empty.adjusted.clear()
    assert empty.proposals([]) == []


def test_a_day_of_cash_and_shares_that_was_shifted_is_moved_as_a_whole() -> None:
    cash = event(SESSIONS[EX], cash=1.2)
    both = Market([cash | {"bonus_ratio": 0.2}])
    shifted = [event(SESSIONS[EX + 2], cash=1.2), event(SESSIONS[EX + 2], event_type="bonus", bonus_ratio=0.2)]
    found = both.proposals(shifted)
    assert {(row["kind"], row["event_type"], row["proposed"][0]["ex_date"]) for row in found} == {
        ("misdated", "cash", SESSIONS[EX].isoformat()),
        ("misdated", "bonus", SESSIONS[EX].isoformat()),
    }


ERRORS = st.sampled_from(["drop", "shift", "x10", "x0.1", "invent", "none"])


@settings(max_examples=25, deadline=None)
@given(
    error=ERRORS,
    seed=st.integers(0, 1_000),
    cash=st.sampled_from([0.6, 0.8, 1.1, 1.5, 2.0]),
    lag=st.sampled_from([-4, -2, -1, 1, 2, 4]),
)
def test_one_error_gives_one_proposal_that_undoes_it(error: str, seed: int, cash: float, lag: int) -> None:
    truth = event(SESSIONS[EX], cash=cash)
    other = event(SESSIONS[EX + 63], event_type="split", split_ratio=3.0)
    world = Market([truth, other], seed)
    wrong: dict[str, list[Terms]] = {
        "drop": [],
        "shift": [truth | {"ex_date": SESSIONS[EX + lag]}],
        "x10": [truth | {"cash": cash * 10}],
        "x0.1": [truth | {"cash": cash / 10}],
        "invent": [truth, event(SESSIONS[EX - 50], cash=cash * 1.3)],
        "none": [truth],
    }
    kinds = {"drop": "missing", "shift": "misdated", "x10": "mis_sized", "x0.1": "mis_sized", "invent": "invented"}
    found = world.proposals([*wrong[error], other])
    assert [row["kind"] for row in found] == ([kinds[error]] if error in kinds else [])
    for row in found:
        wanted = [] if error == "invent" else [(SESSIONS[EX].isoformat(), pytest.approx(cash, rel=0.01))]
        assert [(said["ex_date"], said["cash"]) for said in row["proposed"]] == wanted


# --- real history ---------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_vndirect_is_found_wrong_where_the_exchange_and_two_series_say_so(shared_data: Any) -> None:
    """SLS paid its 20 % stock dividend of 2018 once, not twice; CTP its 500 dong of 2017 once as well."""
    from datetime import UTC, datetime

    from vprism_pipelines.providers.files import FilesProvider, Mapping, read
    from vprism_pipelines.warehouse.ingest import clean_raw

    symbols = [f"VN:STOCK:{code}" for code in ("SLS", "CTP", "VTO", "FPT", "VNM")]
    now = datetime(2026, 11, 20, tzinfo=UTC)

    def cleaned(file: str, mapping: str, dataset: str) -> pl.DataFrame:
        how = Mapping.load(mapping)
        payload = read(shared_data / f"{file}.parquet", how, now)
        raw = FilesProvider(name=how.provider).parse(payload).frames[dataset]  # type: ignore[index]
        raw = raw.filter(pl.col("raw_symbol").is_in([symbol[-3:] for symbol in symbols]))
        pulls = pl.DataFrame({"fetch_id": [payload.fetch_id], "provider": [how.provider], "fetched_at": [now]})
        return clean_raw(raw, pulls, VN, dataset).accepted

    declared = cleaned("vn_vndirect_events", "vndirect_events", "actions")
    bars = cleaned("vn_vndirect_close_asof_2021_02", "vndirect_closes", "bars").with_columns(
        traded=pl.col("volume") > 0
    )
    standing = merge_events(declared, ["vndirect"])
    steps = factor_sets(standing, bars, "VND").steps
    found = detect(standing, steps, bars, bars, VN, declared=declared)
    about = {(row["symbol"][-3:], row["ex_date"], row["kind"]) for row in found.iter_rows(named=True)}
    assert ("SLS", date(2018, 3, 16), "duplicate") in about
    assert ("CTP", date(2017, 7, 14), "duplicate") in about
    assert ("VTO", date(2015, 6, 24), "mis_sized") in about
    assert len(about) < 0.1 * standing.height
