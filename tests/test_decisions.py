"""What people decide about corporate actions: kept in the lake, counted in golden, taken back without a trace lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer

from tests import house as kit
from tests.house import DAYS, NOW, US, Clock, action, answer, bar, registered, scripted
from vprism_pipelines.errors import InvalidInput, Malformed, VprismError
from vprism_pipelines.market.actions import DECISIONS, EVENTS, merge_events
from vprism_pipelines.providers.base import Payload, Request
from vprism_pipelines.providers.detective import DetectiveProvider, decision
from vprism_pipelines.quality.datasets import CHECKS
from vprism_pipelines.serving.cli import actions
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, application
from vprism_pipelines.warehouse import detective
from vprism_pipelines.warehouse import golden as golden_stages
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.rebuild import build, rebuild

SPAN = DAYS[:120]
EX = 60
Provider = scripted("teller")


def closes() -> list[float]:
    level, made = 50.0, []
    for n in range(len(SPAN)):
        level = level - 1.5 if n == EX else level
        made.append(round(level * (1 + 0.002 * (n * 7 % 5 - 2)), 4))
    return made


def told(declared_cash: float | None, ex: int = EX) -> bytes:
    """Bars with an adjusted close that knows of 1.5 dollars on the ex-date, and what is declared."""
    raw = closes()
    factor = 1 - 1.5 / raw[EX - 1]
    bars = [
        bar("A", day, close, adj_close=round(close * (factor if n < EX else 1.0), 6))
        for n, (day, close) in enumerate(zip(SPAN, raw, strict=True))
    ]
    return answer(bars, [] if declared_cash is None else [action("A", SPAN[ex], cash=declared_cash)])


@pytest.fixture(scope="module", name="wrong")
def wrong_fixture(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The data of a warehouse in which a dividend of 1.5 was declared as 15."""
    place = kit.house(tmp_path_factory.mktemp("wrong") / "data", universe={"us": ["A"]})
    Provider.says["US:STOCK:A"] = told(15.0)
    with registered(Provider):
        kit.refresh(place, Provider.name, (SPAN[0], SPAN[-1]))
        look(place)
        yield place.settings.data_dir


@pytest.fixture(name="place")
def place_fixture(wrong: Path, tmp_path: Path) -> House:
    """A copy of it that a test may change."""
    shutil.copytree(wrong, tmp_path / "data")
    return kit.house(tmp_path / "data", clock=Clock(), universe={"us": ["A"]})


def look(place: House) -> pl.DataFrame:
    """What the asset does: detect and replace."""
    with place.warehouse.transaction() as connection:
        return detective.refresh(connection, place.lake, US)


def believe(place: House) -> None:
    """The events and factors of a run."""
    for stage in (golden_stages.build_events, golden_stages.build_factors):
        with place.warehouse.transaction() as connection:
            stage(connection, US)


def later(place: House, hours: int = 1) -> None:
    assert isinstance(place.clock, Clock)
    place.clock.now += timedelta(hours=hours)


def decide(place: House, proposal_id: str, verdict: Any, by: str = "Ann", note: str | None = None) -> detective.Decided:
    later(place)
    return detective.decide(place, proposal_id, verdict, by=by, note=note, run_id=f"decided-{place.clock()}")


def golden(place: House) -> list[tuple[Any, ...]]:
    with place.warehouse.connect() as connection:
        return connection.execute(
            "SELECT symbol, ex_date, event_type, cash, provider FROM golden.adjustment_events ORDER BY ALL"
        ).fetchall()


def ledger(place: House) -> list[tuple[Any, ...]]:
    with place.warehouse.connect() as connection:
        return connection.execute(
            """SELECT provider, cash, withdrawn, known_to IS NULL FROM clean.corporate_actions_ledger
               ORDER BY known_from, provider"""
        ).fetchall()


def only(frame: pl.DataFrame) -> dict[str, Any]:
    assert frame.height == 1, frame
    return frame.row(0, named=True)


# --- decisions --------------------------------------------------------------------------------------------------------


def test_an_accepted_size_replaces_the_declared_one_and_the_proposal_is_settled(place: House) -> None:
    found = only(look(place))
    assert (found["kind"], found["status"], json.loads(found["proposed"])[0]["cash"]) == ("mis_sized", "open", 1.5)
    assert decide(place, found["proposal_id"], "accepted", note="the issuer's notice").events == 1
    believe(place)
    assert golden(place) == [("US:STOCK:A", SPAN[EX], "cash", 1.5, DECISIONS)]
    settled = only(look(place))
    assert (settled["status"], settled["decided_by"], settled["note"]) == ("accepted", "Ann", "the issuer's notice")
    assert ledger(place) == [(Provider.name, 15.0, None, True), (DECISIONS, 1.5, None, True)]


def test_withdrawing_lets_the_declared_event_count_again_and_forgets_nothing(place: House) -> None:
    name = only(look(place))["proposal_id"]
    decide(place, name, "accepted")
    believe(place)
    look(place)
    decide(place, name, "withdrawn", by="Bob")
    believe(place)
    assert golden(place) == [("US:STOCK:A", SPAN[EX], "cash", 15.0, Provider.name)]
    assert ledger(place)[1:] == [(DECISIONS, 1.5, None, False), (DECISIONS, 1.5, True, True)]
    assert only(look(place))["status"] == "withdrawn"
    decide(place, name, "accepted")
    believe(place)
    assert golden(place)[0][3:] == (1.5, DECISIONS)


def test_a_rejected_proposal_is_made_no_more_and_declares_nothing(place: House) -> None:
    name = only(look(place))["proposal_id"]
    assert decide(place, name, "rejected", note="it was a special one").events == 0
    believe(place)
    assert golden(place) == [("US:STOCK:A", SPAN[EX], "cash", 15.0, Provider.name)]
    assert only(look(place))["status"] == "rejected"
    assert decide(place, name, "withdrawn").events == 0
    assert only(look(place))["status"] == "withdrawn"


@pytest.mark.parametrize(
    ("declared", "ex", "kind", "standing"),
    [
        (None, EX, "missing", [(SPAN[EX], 1.5)]),
        (1.5, EX + 3, "misdated", [(SPAN[EX], 1.5)]),
        (0.7, EX - 30, "invented", []),
    ],
)
def test_what_is_accepted_is_what_golden_holds(
    place: House, declared: float | None, ex: int, kind: str, standing: list[tuple[date, float]]
) -> None:
    Provider.says["US:STOCK:A"] = told(declared, ex)
    with place.warehouse.transaction() as connection:
        connection.execute("DELETE FROM clean.corporate_actions_ledger")
    later(place, 24)
    kit.refresh(place, Provider.name, (SPAN[0], DAYS[-1]))
    with place.warehouse.transaction() as connection:
        connection.execute("DELETE FROM clean.corporate_actions_ledger WHERE cash = 15")
    believe(place)
    found = look(place).filter(pl.col("kind") == kind)
    decide(place, only(found)["proposal_id"], "accepted")
    believe(place)
    decided = [(row[1], row[3]) for row in golden(place) if row[4] == DECISIONS]
    assert decided == standing
    assert not [row for row in golden(place) if row[1] == SPAN[ex] and row[4] == Provider.name]
    assert kind not in look(place).filter(pl.col("status") == "open")["kind"].to_list()


def test_a_rebuild_from_the_lake_keeps_every_decision(place: House) -> None:
    name = only(look(place))["proposal_id"]
    decide(place, name, "accepted", note="seen")
    build(place, US)
    before = golden(place), ledger(place)
    report = rebuild(place)
    assert report.identical
    assert (golden(place), ledger(place)) == before
    again = only(look(place))
    assert (again["proposal_id"], again["status"], again["decided_by"], again["note"]) == (
        name,
        "accepted",
        "Ann",
        "seen",
    )


def test_a_proposal_whose_cause_is_gone_is_no_longer_listed(place: House) -> None:
    Provider.says["US:STOCK:A"] = told(1.5)
    later(place, 24)
    kit.refresh(place, Provider.name, (SPAN[0], DAYS[-1]))
    assert look(place).is_empty()


@pytest.mark.parametrize(
    ("steps", "verdict", "says"),
    [
        ([], "withdrawn", "nothing was decided"),
        (["accepted"], "accepted", "was accepted by Ann"),
        (["accepted"], "rejected", "was accepted by Ann"),
        (["rejected"], "accepted", "was rejected by Ann"),
        (["accepted", "withdrawn"], "withdrawn", "nothing was decided"),
    ],
)
def test_a_decision_is_changed_only_by_withdrawing_it(place: House, steps: list[str], verdict: str, says: str) -> None:
    name = only(look(place))["proposal_id"]
    for step in steps:
        decide(place, name, step)
    with pytest.raises(InvalidInput, match=says) as caught:
        decide(place, name, verdict)
    assert caught.value.hint
    with pytest.raises(InvalidInput, match="there is no proposal 'x'"):
        decide(place, "x", "accepted")
    with pytest.raises(InvalidInput, match="somebody"):
        decide(place, name, "rejected", by=" ")


def test_an_event_of_unknown_terms_cannot_be_accepted(place: House) -> None:
    name = only(look(place))["proposal_id"]
    with place.warehouse.transaction() as connection:
        connection.execute("UPDATE quality.action_proposals SET kind = 'missing', declared = NULL, proposed = '[]'")
    with pytest.raises(InvalidInput, match="not which"):
        decide(place, name, "accepted")
    assert decide(place, name, "rejected").status == "rejected"


# --- the provider -----------------------------------------------------------------------------------------------------


def test_a_payload_that_is_no_decision_is_malformed() -> None:
    request = Request(DECISIONS, "actions", "us", None, None, None, None, url="decision:x")
    bodies = [b"", b"[]", b"{}", b'{"decision": "maybe", "symbol": "A", "proposed": [], "declared": null}']
    for body in bodies:
        with pytest.raises(Malformed):
            DetectiveProvider().parse(Payload(request, 200, body, NOW))


def test_a_struck_out_event_is_declared_without_terms_and_leaves_no_event() -> None:
    row = {
        "proposal_id": "p", "symbol": "US:STOCK:A", "kind": "invented", "event_type": "cash", "confidence": 0.9,
        "currency": "USD", "ex_date": SPAN[0], "declared": '{"cash": 1.0}', "proposed": "[]", "evidence": "{}",
    }  # fmt: skip
    payload = decision("us", row, "accepted", by="Ann", note=None, decided_at=datetime(2026, 1, 1, tzinfo=UTC))
    (raw,) = DetectiveProvider().parse(payload).frames["actions"].iter_rows(named=True)
    assert (raw["ex_date"], raw["event_type"], raw["cash"], raw["split_ratio"]) == (SPAN[0], "cash", 0.0, 1.0)
    declared = {"symbol": "A", "ex_date": SPAN[0], "event_type": "cash", "cash": 1.0, "provider": "a"}
    both = pl.DataFrame([declared, declared | {"cash": 0.0, "provider": DECISIONS}])
    assert merge_events(both, ["a"]).is_empty()
    taken_back = both.with_columns(withdrawn=pl.col("provider") == DECISIONS)
    assert merge_events(taken_back, ["a"])["cash"].to_list() == [1.0]
    assert merge_events(taken_back, ["a"]).columns == [*EVENTS, "withdrawn", "n_sources", "conflict"]


# --- the command line -------------------------------------------------------------------------------------------------


def vprism(place: House, *words: str) -> Answer:
    app = application()
    actions.add_to(app)
    answered = typer.main.get_command(app)(["actions", *words], obj=Session(given_house=place), standalone_mode=False)
    assert isinstance(answered, Answer)
    return answered


def rows(answered: Answer) -> list[dict[str, Any]]:
    assert isinstance(answered.frame, pl.DataFrame)
    return answered.frame.rows(named=True)


def test_people_review_look_closer_and_decide(place: House) -> None:
    (listed,) = rows(vprism(place, "review", "--market", "us", "--least", "0.5"))
    assert (listed["declared"], listed["proposed"]) == (f"{SPAN[EX]} cash 15", f"{SPAN[EX]} cash 1.5")
    shown = {row["field"]: row["value"] for row in rows(vprism(place, "show", listed["proposal_id"]))}
    assert json.loads(shown["evidence"])["steps"][0]["provider"] == Provider.name
    later(place)
    accepted = vprism(place, "accept", listed["proposal_id"], "--by", "Ann", "--note", "seen", "--no-build")
    assert [(row["status"], row["events"]) for row in rows(accepted)] == [("accepted", 1)]
    assert "vprism run us" in accepted.notes[0]
    assert rows(vprism(place, "review")) == []
    assert len(rows(vprism(place, "review", "--status", "accepted", "--kind", "mis_sized"))) == 1
    later(place)
    assert (
        rows(vprism(place, "withdraw", listed["proposal_id"], "--by", "Bob", "--no-build"))[0]["status"] == "withdrawn"
    )
    later(place)
    rejected = vprism(place, "reject", listed["proposal_id"], "--by", "Bob")
    assert [(row["status"], row["events"]) for row in rows(rejected)] == [("rejected", 0)]


def test_a_wrong_id_ends_with_the_status_of_bad_input(place: House) -> None:
    for words in (["show", "nope"], ["accept", "nope", "--by", "Ann"], ["withdraw", "nope", "--by", "Ann"]):
        with pytest.raises(VprismError) as caught:
            vprism(place, *words)
        assert (caught.value.exit_status, caught.value.code) == (10, "INVALID_INPUT")
        assert "review" in caught.value.hint


def test_open_proposals_of_high_confidence_are_a_warning() -> None:
    check = CHECKS["declared_actions"]
    assert (check.judge(0.0), check.judge(1.0), check.judge(500.0)) == ("OK", "WARN", "WARN")
    assert not check.blocks
