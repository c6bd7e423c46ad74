"""What `vprism explain` promises: every published number leads to the exact bytes it was read from, proven, or says why
there is none."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import random
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401
from tests.house import DAYS, Clock, Scripted, action, answer, bar, house, refresh, registered, scripted
from tests.provider_kit import recordings
from tests.test_import import bars as file_bars
from tests.test_import import mapping as file_mapping
from tests.warehouse_fixture import copy_of, house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines.errors import (
    CorruptLake,
    InvalidConfiguration,
    InvalidInput,
    InvalidRange,
    Malformed,
    UnknownSymbol,
)
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Parsed, Payload, Request, raw_frame
from vprism_pipelines.serving.explain import NUMBERS, Cell, Explainer
from vprism_pipelines.serving.explanation import Explanation
from vprism_pipelines.serving.library import Library
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import import_file
from vprism_pipelines.warehouse.numerals import Text, another_day, misspelt
from vprism_pipelines.warehouse.provenance import Reading
from vprism_pipelines.warehouse.rebuild import replay

NOW = datetime(2026, 11, 20, 22, tzinfo=UTC)


def explainer(place: House) -> Explainer:
    return Explainer(Library(place.reader, place.clock), place.lake, place.clock)


def told(place: House, *cell: Any, **options: Any) -> Explanation:
    (explanation,) = explainer(place).explain([Cell(*cell, **options)])
    return explanation


def numbers_of(place: House, count: int, seed: int, where: str = "true") -> list[Cell]:
    """Random numbers of golden that are there."""
    rows = place.reader.query(f"SELECT * FROM golden.bars WHERE {where} ORDER BY symbol, session").to_dicts()
    filled = [(row["symbol"], row["session"], name) for row in rows for name in NUMBERS if row[name] is not None]
    return [Cell(*filled[at]) for at in random.Random(seed).sample(range(len(filled)), min(count, len(filled)))]


def assert_proven(place: House, explanation: Explanation) -> None:
    """The bytes named are in the archived answer, and spell the value in the provider's unit."""
    source, cleaning = explanation.source, explanation.cleaning
    where = f"{explanation.chosen} {explanation.symbol} {explanation.session} {explanation.field}"
    assert source is not None, where
    assert cleaning is not None, where
    assert source.verified, where
    assert cleaning.agrees, where
    (payload,) = place.lake.payloads(source.lake_path, [source.fetch_id])
    assert payload.sha256 == source.sha256
    assert explanation.places, where
    for found in explanation.places:
        assert found.proof, where
        if found.offset is None:
            assert found.column is not None, where
        else:
            assert found.length is not None
            assert payload.body[found.offset : found.offset + found.length].decode() == found.text, where
            assert f"«{found.text}»" in found.context
        assert float(found.text) == pytest.approx(cleaning.raw, rel=1e-6), where


# --- down to the bytes ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def vietnam(tmp_path_factory: pytest.TempPathFactory) -> House:
    """Two simulated vendors, a CSV file and a parquet file of other symbols, published. Read-only."""
    folder = tmp_path_factory.mktemp("vietnam")
    place = house_at(folder / "data")
    for provider in ("simulated", "simulated_b"):
        listed = place.parser(provider).capabilities().universe[:6]
        acquire(place, VN, provider, (date(2024, 1, 2), date(2024, 2, 29)), "test", symbols=listed)
    known_at = datetime(2025, 7, 1, tzinfo=UTC)
    rows = file_bars().with_columns(volume=pl.int_range(pl.len()) * 10 + 500, high=pl.col("close") + 0.05)
    rows.filter(pl.col("symbol") < "V15").write_csv(folder / "broker.csv")
    rows.filter(pl.col("symbol") >= "V15").write_parquet(folder / "broker.parquet", row_group_size=100)
    for name in ("broker.csv", "broker.parquet"):
        import_file(place, folder / name, file_mapping(), "test", known_at=known_at)
    replay(place, "vn")
    return place


@pytest.mark.parametrize(
    ("where", "providers"),
    [
        ("symbol LIKE 'VN:STOCK:Z%'", {"simulated", "simulated_b"}),
        ("symbol LIKE 'VN:STOCK:V%'", {"broker"}),
    ],
)
def test_any_number_of_golden_leads_to_the_bytes_it_was_read_from(
    vietnam: House, where: str, providers: set[str]
) -> None:
    cells = numbers_of(vietnam, 30, seed=1, where=where)
    explanations = explainer(vietnam).explain(cells)
    for cell, explanation in zip(cells, explanations, strict=True):
        assert (explanation.symbol, explanation.session, explanation.field) == (cell.symbol, cell.session, cell.field)
        assert_proven(vietnam, explanation)
    assert {explanation.chosen for explanation in explanations} <= providers


def test_a_vendor_that_golden_never_follows_is_read_to_the_bytes_too(vietnam: House) -> None:
    fetches = vietnam.reader.query("FROM raw.fetches WHERE provider = 'simulated_b' AND rows > 0 ORDER BY fetch_id")
    fetch = fetches.row(0, named=True)
    (payload,) = vietnam.lake.payloads(fetch["lake_path"], [fetch["fetch_id"]])
    reading = Reading(payload, registry.parser_of(payload.request))
    rows = reading.frames["bars"].sample(12, seed=4).to_dicts()
    for row, name in zip(rows, ("open", "high", "low", "close", "volume", "session") * 2, strict=True):
        (found,) = reading.trace("bars", row["row"], name).places
        assert found.offset is not None
        assert payload.body[found.offset :].startswith(found.text.encode())
        assert name == "session" or float(found.text) == row[name]


def test_a_number_of_the_bundled_sample_leads_to_its_cell_in_the_file(sample_house: House) -> None:
    for explanation in explainer(sample_house).explain(numbers_of(sample_house, 8, seed=2)):
        assert_proven(sample_house, explanation)
    found = told(sample_house, "AAPL", "2005-02-25", "close")
    assert [(place.column, place.row_group, place.text) for place in found.places] == [("Close", 0, "88.99")]


RECORDED = {
    "us": {"yahoo": "yahoo", "alpha_vantage": "alpha_vantage", "nasdaq_data_link": "nasdaq_data_link"},
    "vn": {"vn_kbs": "kbs", "vn_vci": "vci"},
    "cn": {"cn_tencent": "tencent", "cn_eastmoney": "eastmoney"},
}


@pytest.mark.shared
@pytest.mark.parametrize("market", sorted(RECORDED))
def test_numbers_of_recorded_answers_lead_to_their_bytes_through_a_replay(
    shared_fixtures: Path, tmp_path: Path, market: str
) -> None:
    place = house_at(tmp_path / "data")
    for folder, provider in RECORDED[market].items():
        answers = recordings(shared_fixtures / folder, provider).values()
        dated = [replace(each, request=replace(each.request, market=market), fetched_at=NOW) for each in answers]
        place.lake.seal(dated, "recorded")
    replay(place, market)
    explanations = explainer(place).explain(numbers_of(place, 24, seed=3))
    for explanation in explanations:
        assert_proven(place, explanation)
    assert {explanation.chosen for explanation in explanations} <= set(RECORDED[market].values())
    assert explanations


# --- the search, whatever the format ----------------------------------------------------------------------------------


class Paper(Scripted):
    """A provider that reads bars from any text a test gives it."""

    name = "paper"
    reads: ClassVar[Callable[[bytes], Sequence[dict[str, Any]]]]

    def parse(self, payload: Payload) -> Parsed:
        try:
            rows = type(self).reads(payload.body)
        except (ValueError, KeyError, IndexError) as error:
            raise Malformed("this is no paper", provider=self.name) from error
        frame = pl.DataFrame(rows, infer_schema_length=None)
        return Parsed({"bars": raw_frame("bars", frame, payload)})


def paper(body: bytes, reads: Callable[[bytes], Sequence[dict[str, Any]]]) -> Reading:
    kind = type("AnyPaper", (Paper,), {"reads": staticmethod(reads)})
    request = Request("paper", "bars", "us", None, None, None, None)
    return Reading(Payload(request, 200, body, NOW), kind())


FIELDS = ("open", "high", "low", "close", "volume")


def _rows(table: Sequence[Sequence[float]]) -> list[dict[str, Any]]:
    return [
        {"raw_symbol": "X", "session": DAYS[at], **dict(zip(FIELDS, row, strict=True))} for at, row in enumerate(table)
    ]


def read_csv(body: bytes) -> list[dict[str, Any]]:
    return _rows([[float(cell) for cell in line.split(b";")] for line in body.splitlines()[1:]])


def read_rows(body: bytes) -> list[dict[str, Any]]:
    return _rows(json.loads(body)["rows"])


def read_columns(body: bytes) -> list[dict[str, Any]]:
    columns = json.loads(body)["columns"]
    return _rows(list(zip(*(columns[name] for name in FIELDS), strict=True)))


def written(table: list[list[str]], layout: str) -> tuple[bytes, dict[tuple[int, int], int], Callable[..., Any]]:
    """A table of spelled numbers in a layout, the offset of each, and what reads it."""
    text, offsets = "", {}

    def put(at: tuple[int, int]) -> None:
        nonlocal text
        offsets[at] = len(text.encode())
        text += table[at[0]][at[1]]

    if layout == "columns":
        text = '{"n": 5, "columns": {'
        for column, name in enumerate(FIELDS):
            text += ("," if column else "") + f'"{name}": ['
            for row in range(len(table)):
                text += "," if row else ""
                put((row, column))
            text += "]"
        return (text + "}}").encode(), offsets, read_columns
    text = "open;high;low;close;volume\n" if layout == "csv" else '{"status": 200, "rows": [['
    for row in range(len(table)):
        text += ("\n" if layout == "csv" else "], [") if row else ""
        for column in range(len(FIELDS)):
            text += (";" if layout == "csv" else ",") if column else ""
            put((row, column))
    return (text + ("" if layout == "csv" else "]]}")).encode(), offsets, read_csv if layout == "csv" else read_rows


# Few values, so that the same number stands in many places.
spelled = st.sampled_from(["5", "5.0", "5.00", "200", "18.25", "0", "0.5", "1e3", "1000", "12345.678", "2024"])
tables_of_text = st.lists(st.lists(spelled, min_size=5, max_size=5), min_size=1, max_size=12)


@given(tables_of_text, st.sampled_from(["csv", "rows", "columns"]), st.data())
@settings(max_examples=150, deadline=None)
def test_among_equal_numbers_the_very_one_is_found_in_any_layout(
    table: list[list[str]], layout: str, data: st.DataObject
) -> None:
    body, offsets, reads = written(table, layout)
    row = data.draw(st.integers(0, len(table) - 1))
    column = data.draw(st.integers(0, len(FIELDS) - 1))
    found = paper(body, reads).trace("bars", row, FIELDS[column])
    assert [(place.offset, place.text) for place in found.places] == [(offsets[row, column], table[row][column])]


def test_one_number_among_thousands_of_equal_ones_is_found_in_a_few_parses() -> None:
    body, offsets, reads = written([["7.5"] * 5] * 700, "columns")
    found = paper(body, reads).trace("bars", 431, "low")
    assert [place.offset for place in found.places] == [offsets[431, 2]]
    assert found.parses <= 2 * 12 + 4  # 3,500 numbers are halved twelve times


@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-8-sig"])
def test_offsets_are_those_of_the_bytes_in_wide_encodings_too(encoding: str) -> None:
    body, _, _ = written([["5", "18.25", "5", "18.25", "200"]], "csv")
    text = body.decode().replace("open", "mở cửa").encode(encoding)
    found = paper(text, lambda answer: read_csv(answer.decode(encoding).encode())).trace("bars", 0, "close")
    (place,) = found.places
    assert place.offset is not None
    assert place.length is not None
    assert text[place.offset : place.offset + place.length].decode(encoding) == "18.25"


def test_a_packed_answer_is_searched_inside_its_members() -> None:
    body, offsets, reads = written([["5", "18.25", "5", "18.5", "200"]], "csv")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("readme.txt", "18.5 is a number, too")
        archive.writestr("prices.csv", body)

    def unzipped(answer: bytes) -> list[dict[str, Any]]:
        with zipfile.ZipFile(io.BytesIO(answer)) as again:
            return reads(again.read("prices.csv"))  # type: ignore[no-any-return]

    for packet, member, opened in (
        (packed.getvalue(), "prices.csv", unzipped),
        (gzip.compress(body), "gzip", lambda content: reads(gzip.decompress(content))),
    ):
        (place,) = paper(packet, opened).trace("bars", 0, "close").places
        assert (place.member, place.offset, place.text) == (member, offsets[0, 3], "18.5")


@pytest.mark.parametrize(
    ("body", "value", "text"),
    [
        (b"12,345,678|1.5", 12_345_678.0, "12,345,678"),
        (b"1.234.567|1.5", 1_234_567.0, "1.234.567"),
        (b"38.97999954223633|1.5", 38.98, "38.97999954223633"),
        (b"4.25|1.5", 0.0425, "4.25"),  # percent
    ],
)
def test_numbers_are_found_however_a_provider_writes_them(body: bytes, value: float, text: str) -> None:
    def reads(answer: bytes) -> list[dict[str, Any]]:
        cell = answer.split(b"|")[0]
        if b"%.2f" % (value * 100) == b"4.25":
            number = float(cell) / 100
        elif cell.count(b",") + cell.count(b".") > 1:
            number = float(cell.replace(b",", b"").replace(b".", b""))
        else:
            number = float(f"{float(cell):.7g}")
        return [{"raw_symbol": "X", "session": DAYS[0], "close": number}]

    reading = paper(body, reads)
    assert reading.row("bars", 0)["close"] == value
    assert [place.text for place in reading.trace("bars", 0, "close").places] == [text]


def test_a_value_made_of_several_numbers_names_all_of_them() -> None:
    def reads(answer: bytes) -> list[dict[str, Any]]:
        document = json.loads(answer)
        factor = 1.0
        for new, old in document["splits"]:
            factor *= new / old
        return [
            {"raw_symbol": "X", "session": DAYS[at], "close": close, "volume": sum(document["lots"]),
             "price_basis": "split_adjusted", "basis_factor": factor}
            for at, close in enumerate(document["close"])
        ]  # fmt: skip

    reading = paper(b'{"close": [10.5, 11.5], "lots": [300, 25], "splits": [[7, 1], [3, 2]]}', reads)
    assert reading.row("bars", 1)["basis_factor"] == 10.5
    assert [place.text for place in reading.trace("bars", 1, "basis_factor").places] == ["7", "1", "3", "2"]
    assert [place.text for place in reading.trace("bars", 1, "volume").places] == ["300", "25"]
    assert [place.text for place in reading.trace("bars", 0, "close").places] == ["10.5"]


def test_a_row_that_the_answer_holds_twice_names_both_places() -> None:
    def reads(answer: bytes) -> list[dict[str, Any]]:
        first, second = (float(cell) for cell in answer.split(b","))
        if first != second:
            raise ValueError("they contradict each other")
        return [{"raw_symbol": "X", "session": DAYS[0], "close": first}]

    assert [place.offset for place in paper(b"12.5,12.5", reads).trace("bars", 0, "close").places] == [0, 5]


def test_a_number_that_the_answer_does_not_hold_leads_nowhere() -> None:
    def reads(answer: bytes) -> list[dict[str, Any]]:
        return [{"raw_symbol": "X", "session": DAYS[0], "close": float(json.loads(answer)[0]), "volume": 42.0}]

    found = paper(b"[12.5, 42]", reads)
    assert found.trace("bars", 0, "volume").places == ()
    assert found.trace("bars", 0, "value").places == ()  # not given


def test_a_session_leads_to_its_date() -> None:
    def reads(answer: bytes) -> list[dict[str, Any]]:
        rows = [line.split(",") for line in answer.decode().splitlines()]
        return [{"raw_symbol": "X", "session": date.fromisoformat(day), "close": float(close)} for day, close in rows]

    places = paper(b"2024-03-04,1.5\n2024-03-05,1.5\n", reads).trace("bars", 1, "session").places
    assert [(place.text, place.line) for place in places] == [("2024-03-05", 2)]


@given(st.floats(1e-6, 1e12) | st.integers(0, 10**12).map(float))
def test_a_misspelt_number_is_as_long_and_another_one(value: float) -> None:
    for text in {repr(value), f"{value:.2f}", f"{value:.0f}"}:
        other = misspelt(text.encode())
        assert len(other) == len(text)
        assert float(other) != float(text)
        if "e" not in text and float(text):
            assert abs(float(other) / float(text) - 1) > 5e-13


@given(st.dates(date(1990, 1, 1), date(2100, 1, 1)), st.sampled_from(["%Y-%m-%d", "%Y%m%d", "%d/%m/%Y", "%m/%d/%Y"]))
def test_a_misspelt_date_is_as_long_and_another_date(day: date, form: str) -> None:
    text = day.strftime(form)
    other = another_day(text.encode()).decode()
    assert len(other) == len(text)
    assert datetime.strptime(other, form).date() != day


@given(st.decimals(min_value=0, max_value=10**9, places=4))
def test_a_spelled_number_is_found_wherever_it_stands_alone(value: Any) -> None:
    text = f"{value:f}"
    body = f'{{"a": {text}, "b": 9{text}, "c": "{text}", "d": {text}1}}'.encode()
    found = [token.start for token in Text(body).spelled(float(value))]
    assert body.index(text.encode()) in found
    assert body.index(b'"c": "') + 6 in found
    assert body.index(b'"b": ') + 5 not in found


# --- the story around it ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def rivals(tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    """Two providers of the us market: one is corrected late, they differ once, one bar is refused, one has a split."""
    first, second = scripted("first"), scripted("second")
    days = DAYS[:30]
    closes = [round(100 + 0.25 * (at % 9), 2) for at in range(len(days))]

    def said(shift: float = 0.0) -> list[dict[str, Any]]:
        rows = [bar("AAPL", day, closes[at] / (2 if at >= 20 else 1)) for at, day in enumerate(days)]
        rows[5] = bar("AAPL", days[5], round(closes[5] + shift, 2))
        rows[12] = {**bar("AAPL", days[12], closes[12]), "low": 500.0}
        return rows

    split = [action("AAPL", days[20], event_type="split", split_ratio=2.0)]
    place = house(tmp_path_factory.mktemp("rivals") / "data", clock=(clock := Clock(NOW - timedelta(days=20))))
    with registered(first, second):
        first.says["US:STOCK:AAPL"] = answer(said(), split)
        second.says["US:STOCK:AAPL"] = answer([row for at, row in enumerate(said()) if at not in (12, 13)])
        place = house(place.settings.data_dir, clock=clock, universe={"us": ["AAPL"]})
        refresh(place, "first", (days[0], days[-1]))
        refresh(place, "second", (days[0], days[-1]))
        clock.now = NOW
        first.says["US:STOCK:AAPL"] = answer(said(0.01), split)
        asyncio.run(_again(place, first, days))
        replay(place, "us")
        yield place


async def _again(place: House, provider: type[Scripted], days: Sequence[date]) -> None:
    parser = provider(clock=place.clock)
    (request,) = parser.plan("us", "bars", ["US:STOCK:AAPL"], days[0], days[-1], place.clock())
    place.lake.seal([await parser.fetch(request)], "again")


def test_it_tells_who_said_what_and_why_one_was_believed(rivals: House) -> None:
    found = told(rivals, "AAPL", DAYS[3], "close")
    assert {candidate.provider for candidate in found.candidates} == {"first", "second"}
    assert [candidate.chosen for candidate in found.candidates].count(True) == 1
    assert all(candidate.weight > 0 for candidate in found.candidates)
    assert found.why
    assert found.confidence == pytest.approx(1.0)


def test_it_tells_every_version_and_marks_the_one_in_use(rivals: House) -> None:
    found = told(rivals, "AAPL", DAYS[5], "close")
    assert found.chosen is not None
    versions = rivals.reader.query(
        "SELECT count(*) FROM clean.bars_ledger WHERE session = ? AND provider = ?", [DAYS[5], found.chosen]
    ).item()
    assert len(found.versions) == versions
    assert [version.used for version in found.versions].count(True) == 1
    assert next(version.value for version in found.versions if version.used) == found.value


def test_an_adjusted_price_is_the_raw_one_times_the_product_of_its_steps(sample_house: House) -> None:
    for basis in ("split", "qfq", "hfq", "total_return"):
        found = told(sample_house, "AAPL", "2005-02-25", "close", basis=basis)
        published = Library(sample_house.reader).bars("AAPL", "2005-02-25", "2005-02-25", basis)["close"].item()
        assert found.value == published
        assert found.factor is not None
        product = 1.0
        for step in found.factor.steps:
            product *= step.multiplier
            assert step.actions
            assert step.formula
        assert product == pytest.approx(found.factor.value, rel=1e-12)
        assert found.raw_value * found.factor.value == pytest.approx(published, rel=1e-12)  # type: ignore[operator]
        assert_proven(sample_house, replace(found, field="close"))


def test_the_events_of_a_factor_lead_to_their_bytes_when_asked_for(rivals: House) -> None:
    found = told(rivals, "AAPL", DAYS[3], "close", basis="qfq", events=True)
    assert found.factor is not None
    ((step,),) = (found.factor.steps,)
    assert step.multiplier == 0.5
    assert [
        (action.event_type, action.provider, [place.text for place in action.places]) for action in step.actions
    ] == [("split", "first", ["2.0"])]


def test_an_indicator_is_its_formula_over_its_inputs_and_the_bytes_of_its_last_close(sample_house: House) -> None:
    found = told(sample_house, "AAPL", "2005-02-28", "ret_1d")
    assert found.indicator is not None
    assert found.indicator.sessions == 2
    (close,) = found.indicator.inputs
    assert (close["first"], close["last"]) == (88.99, 44.86)
    assert [place.text for place in found.places] == ["44.86"]


def test_as_of_an_instant_it_explains_what_was_believed_then(rivals: House) -> None:
    before = told(rivals, "AAPL", DAYS[5], "close", as_of=NOW - timedelta(days=10))
    now = told(rivals, "AAPL", DAYS[5], "close")
    assert (
        before.value
        == Library(rivals.reader, rivals.clock)
        .bars("AAPL", DAYS[5], DAYS[5], "raw", NOW - timedelta(days=10))["close"]
        .item()
    )
    assert_proven(rivals, before)
    assert_proven(rivals, now)
    never = told(rivals, "AAPL", DAYS[5], "close", as_of=NOW - timedelta(days=400))
    assert never.missing is not None
    assert never.value is None


# --- why there is none ------------------------------------------------------------------------------------------------


def reason(place: House, *cell: Any) -> str | None:
    found = told(place, *cell)
    assert found.value is None
    assert found.missing is not None
    assert found.missing.text
    return found.missing.reason


def test_a_number_that_is_not_there_says_why(sample_house: House, vietnam: House) -> None:
    assert reason(sample_house, "AAPL", "2005-02-26", "close") == "not_a_session"  # a Saturday
    assert reason(sample_house, "AAPL", "2099-01-05", "close") == "future"
    assert reason(sample_house, "FB", "2005-02-28", "close") == "not_told"  # asked for, and listed in 2012
    assert reason(sample_house, "AAPL", "2020-01-06", "close") == "not_asked"
    assert reason(sample_house, "AAPL", "2005-02-28", "value") == "not_given"
    assert reason(sample_house, "AAPL", "2000-03-02", "sma_50") == "warming_up"
    assert reason(vietnam, "VN:STOCK:V01", "2025-03-08", "close") == "not_a_session"


def test_a_refused_row_is_shown_with_its_reasons(rivals: House) -> None:
    found = told(rivals, "AAPL", DAYS[12], "close")
    assert found.missing is not None
    assert found.missing.reason == "rejected"
    assert "price_order" in found.missing.evidence[0]["reasons"]


def test_a_session_still_running_is_provisional(tmp_path: Path) -> None:
    noon = Clock(datetime(2026, 11, 20, 17, tzinfo=UTC))
    live = scripted("live")
    place = house(tmp_path, clock=noon, universe={"us": ["AAPL"]})
    with registered(live, alone=True):
        live.says["US:STOCK:AAPL"] = answer([bar("AAPL", day, 100.0) for day in DAYS[-3:]])
        refresh(place, "live", (DAYS[-3], DAYS[-1]))
        assert reason(place, "AAPL", DAYS[-1], "close") == "provisional"


def test_what_makes_no_sense_is_refused_with_a_hint(sample_house: House) -> None:
    for cell, error in (
        (Cell("AAPQ", "2005-02-28", "close"), UnknownSymbol),
        (Cell("AAPL", "28.02.2005", "close"), InvalidRange),
        (Cell("AAPL", "2005-02-28", "clse"), InvalidInput),
        (Cell("AAPL", "2005-02-28", "close", "gross"), InvalidInput),  # type: ignore[arg-type]
        (Cell("AAPL", "2005-02-28", "close", as_of="yesterday"), InvalidRange),
        (Cell("AAPL", "2005-02-28", "rsi_14", as_of="2024-01-31T16:00:00Z"), InvalidInput),
    ):
        with pytest.raises(error) as refused:
            explainer(sample_house).explain([cell])
        assert refused.value.hint
    with pytest.raises(InvalidConfiguration):
        Library(sample_house.reader).explain("AAPL", "2005-02-28", "close")


def test_a_damaged_archive_is_an_error_and_never_an_explanation(sample_house: House, tmp_path: Path) -> None:
    place = copy_of(sample_house, tmp_path / "data")
    (path,) = place.lake.payload_files()
    file = place.lake.root / path
    rows = pl.read_parquet(file)
    damaged = rows.with_columns(body=pl.lit(rows["body"][0] + b" "))
    file.chmod(0o644)
    damaged.write_parquet(file)
    with pytest.raises(CorruptLake, match="hash"):
        told(place, "AAPL", "2005-02-28", "close")


# --- shown ------------------------------------------------------------------------------------------------------------


def test_people_get_a_tree_and_machines_one_object_a_line(vprism: Vprism) -> None:
    shown = vprism("explain", "AAPL", "2005-02-25", "close", "--basis", "qfq")
    assert shown.status == 0
    for words in (
        "factor 0.49",
        "golden 88.99 from sample",
        "sha256",
        "verified",
        "lake: payloads/sample",
        "column Close",
    ):
        assert words in shown.out
    (line,) = vprism("explain", "AAPL", "2005-02-25", "close", "--format", "jsonl").rows
    assert line["value"] == 88.99
    assert line["source"]["verified"] is True
    assert line["places"][0]["column"] == "Close"
    (nothing,) = vprism("explain", "AAPL", "2005-02-26", "close", "--format", "jsonl").rows
    assert nothing["value"] is None
    assert nothing["missing"]["reason"] == "not_a_session"


def test_the_command_writes_files_and_refuses_what_it_cannot_read(vprism: Vprism, tmp_path: Path) -> None:
    assert vprism("explain", "AAPL", "2005-02-25", "close", "--output", str(tmp_path / "a.parquet")).status == 0
    assert pl.read_parquet(tmp_path / "a.parquet")["chosen"].to_list() == ["sample"]
    wrong = vprism("explain", "AAPL", "2005-02-25", "clse")
    assert wrong.status == InvalidInput.exit_status
    assert "did you mean close?" in wrong.err


def test_every_registered_provider_can_read_its_archive_again() -> None:
    for name in registry.PROVIDERS:
        request = Request(name, "bars", "us", None, None, None, None, url="file:x" if name == "files" else "")
        assert registry.parser_of(request).parser_version
