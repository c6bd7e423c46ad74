"""KBS and VCI: what is planned and how answers are read. No process, no socket."""

from __future__ import annotations

import copy
import json
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.vnstock_replay import NOW, WEEK, fetch, request
from vprism_pipelines import tables
from vprism_pipelines.errors import (
    Blocked,
    InvalidInput,
    InvalidRange,
    Malformed,
    NoData,
    ProviderError,
    Unavailable,
    UnknownSymbol,
)
from vprism_pipelines.providers.base import RAW_FRAMES, Dataset, Payload, Provider, Request
from vprism_pipelines.providers.vnstock import KbsProvider, VciProvider
from vprism_pipelines.providers.vnstock_parse import VERIFIED
from vprism_pipelines.quality.contracts import violations


def recorded(
    body: Any,
    *,
    url: str = "https://host/",
    symbol: str | None = "VN:STOCK:FPT",
    dataset: Dataset = "bars",
    window: tuple[date, date] | tuple[None, None] = (None, None),
) -> Payload:
    code = symbol.split(":")[2] if symbol else None
    start, end = window
    asked = Request("kbs", dataset, "vn", symbol, code, start, end, url=url)
    return Payload(asked, 200, body if isinstance(body, bytes) else json.dumps(body).encode(), NOW)


def said_by_vnstock(op: str, rows: Any, source: str = "VCI", **more: Any) -> dict[str, Any]:
    versions = {"vnstock": VERIFIED, "vnai": "2.6.1"}
    return {"source": source, "op": op, "versions": versions, "symbol": "FPT", "rows": rows, **more}


# --- planning -----------------------------------------------------------------------------------------------------


class TestPlan:
    @pytest.mark.parametrize(("provider", "windows"), [(KbsProvider(), 10), (VciProvider(), 2)])
    def test_the_windows_of_a_long_range_touch_and_respect_what_the_source_answers_at_once(
        self, provider: Provider, windows: int
    ) -> None:
        planned = provider.plan("vn", "bars", ["VN:STOCK:FPT"], date(2015, 1, 1), date(2024, 12, 27), NOW)
        assert len(planned) == windows
        assert (planned[0].start, planned[-1].end) == (date(2015, 1, 1), date(2024, 12, 27))
        for earlier, later in pairwise(planned):
            assert earlier.end is not None
            assert later.start is not None
            assert (later.start - earlier.end).days == 1

    def test_the_future_is_not_asked_for(self) -> None:
        (planned,) = KbsProvider().plan("vn", "bars", ["VN:STOCK:FPT"], date(2026, 11, 1), date(2027, 6, 1), NOW)
        assert planned.end == date(2026, 11, 22)

    @pytest.mark.parametrize("window", [(date(2024, 2, 1), date(2024, 1, 1)), (date(2027, 1, 1), date(2027, 2, 1))])
    def test_a_reversed_or_future_range_is_refused(self, window: tuple[date, date]) -> None:
        with pytest.raises(InvalidRange):
            KbsProvider().plan("vn", "bars", ["VN:STOCK:FPT"], *window, NOW)

    def test_other_markets_and_datasets_are_refused(self) -> None:
        with pytest.raises(InvalidInput, match="no actions"):
            KbsProvider().plan("vn", "actions", ["VN:STOCK:FPT"], *WEEK, NOW)
        with pytest.raises(InvalidInput, match="'us'"):
            VciProvider().plan("us", "bars", ["US:STOCK:AAPL"], *WEEK, NOW)

    def test_a_rolling_future_is_refused_because_vnstock_means_todays_contract(self) -> None:
        with pytest.raises(UnknownSymbol, match="nearest contract"):
            VciProvider().plan("vn", "bars", ["VN:FUTURES:VN30F1M"], *WEEK, NOW)

    def test_actions_are_asked_for_shares_only_and_each_symbol_once(self) -> None:
        symbols = ["VN:INDEX:VNINDEX", "VN:STOCK:FPT", "VN:ETF:E1VFVN30", "VN:STOCK:FPT"]
        assert [r.symbol for r in VciProvider().plan("vn", "actions", symbols, *WEEK, NOW)] == ["VN:STOCK:FPT"]

    def test_the_listing_is_one_request(self) -> None:
        assert request(KbsProvider(), None, "instruments").url == "vnstock://kbs/listing"

    def test_both_are_providers_and_state_the_guests_pace(self) -> None:
        for provider in (KbsProvider(), VciProvider()):
            assert isinstance(provider, Provider)
            offer = provider.capabilities()
            assert (offer.quota.per_minute, offer.quota.burst, offer.quota.concurrency) == (15, 1, 1)
            assert offer.price_basis == "adjusted_by_source"

    def test_a_provider_without_a_process_answers_unavailable(self) -> None:
        provider = KbsProvider()
        with pytest.raises(Unavailable, match="no vnstock process"):
            provider.parse(fetch(provider, request(provider)))


# --- reading, no process ------------------------------------------------------------------------------------------

KBS_BODY: dict[str, Any] = {
    "symbol": "FPT",
    "data_day": [
        {"t": "2024-06-05 07:00", "o": 101, "h": 103, "l": 100, "c": 102, "v": 2000, "va": 204000},
        {"t": "2024-06-04 07:00", "o": 100, "h": 102, "l": 99, "c": 101, "v": 1000},
    ],
}
VCI_BODY: list[dict[str, Any]] = [
    {
        "symbol": "FPT",
        "o": [100.25, 101],
        "h": [102, 103],
        "l": [99, 100],
        "c": [101, 102.5],
        "v": [1000, 2000],
        "t": ["1717459200", "1717545600"],
        "accumulatedValue": [0.101, 0.204],
    }
]
EVENT_ROW: dict[str, Any] = {
    "id": "1",
    "event_code": "ISS",
    "event_title_vi": "Phát hành cổ phiếu - Cổ phiếu thưởng tỉ lệ 20.0%",
    "event_title_en": None,
    "exright_date": "2024-06-12",
    "exercise_ratio": 0.2,
    "value_per_share": None,
}


class TestRecordings:
    @pytest.mark.shared
    def test_every_recorded_body_gives_bars_or_a_typed_error(self, shared_fixtures: Path) -> None:
        charts = 0
        for path in sorted(shared_fixtures.glob("vn_kbs/*")) + sorted(shared_fixtures.glob("vn_vci/*")):
            payload = recorded(path.read_bytes(), symbol=None, url=f"https://{path.parent.name}/{path.name}")
            if "data_day" in path.name or "gap_chart" in path.name:
                frame = KbsProvider().parse(payload).frames["bars"]
                assert violations(tables.RAW_BARS, frame).is_empty()
                assert frame["session"].is_sorted()
                assert frame["session"].is_unique().all()
                assert frame.select(pl.col("low", "high").is_not_null().all()).row(0) == (True, True)
                traded = frame.drop_nulls("value").with_columns(
                    vwap=pl.col("value") * pl.col("value_unit") / pl.col("volume") / pl.col("close")
                )
                # The unit is right when most values are; single ones are known to be wrong at the source.
                assert traded["vwap"].median() == pytest.approx(1.0, abs=0.2)
                charts += 1
            else:
                (dataset,) = KbsProvider().parse(payload).frames
                assert dataset == ("quotes" if "board" in path.name else "ticks"), path.name
        assert charts >= 7

    def test_kbs_rows_are_vnd_with_their_value(self) -> None:
        frame = KbsProvider().parse(recorded(KBS_BODY)).frames["bars"]
        assert frame.select("row", "session", "close", "value").rows() == [
            (1, date(2024, 6, 4), 101.0, None),
            (0, date(2024, 6, 5), 102.0, 204000.0),
        ]
        assert frame.select("price_unit", "value_unit", "price_basis", "basis_factor", "live").unique().rows() == [
            (1.0, 1.0, "adjusted_by_source", None, False)
        ]

    def test_a_vci_chart_is_vnd_with_values_in_millions(self) -> None:
        frame = VciProvider().parse(recorded(VCI_BODY)).frames["bars"]
        assert frame["session"].to_list() == [date(2024, 6, 4), date(2024, 6, 5)]
        assert (frame["value"] * frame["value_unit"]).to_list() == [101000.0, 204000.0]

    def test_local_midnight_is_the_same_session(self) -> None:
        body = copy.deepcopy(VCI_BODY)
        body[0]["t"] = ["1717434000", "1717520400"]
        frame = VciProvider().parse(recorded(body)).frames["bars"]
        assert frame["session"].to_list() == [date(2024, 6, 4), date(2024, 6, 5)]

    def test_index_levels_are_as_they_were(self) -> None:
        body = {
            "symbol": "VNINDEX",
            "data_day": [{"t": "2026-07-24 15:00", "o": "1.5", "h": 2, "l": 1, "c": "2", "v": "7"}],
        }
        frame = KbsProvider().parse(recorded(body, symbol="VN:INDEX:VNINDEX")).frames["bars"]
        assert frame.select("open", "close", "volume", "price_basis", "basis_factor").rows() == [
            (1.5, 2.0, 7.0, "raw", 1.0)
        ]

    def test_only_the_window_asked_for_is_kept(self) -> None:
        window = date(2024, 6, 5), date(2024, 6, 30)
        frame = KbsProvider().parse(recorded(KBS_BODY, window=window)).frames["bars"]
        assert frame["session"].to_list() == [date(2024, 6, 5)]
        with pytest.raises(NoData):
            KbsProvider().parse(recorded(KBS_BODY, window=(date(2024, 7, 1), date(2024, 7, 5))))

    def test_a_row_said_twice_counts_once(self) -> None:
        body = {**KBS_BODY, "data_day": KBS_BODY["data_day"] * 2}
        assert KbsProvider().parse(recorded(body)).frames["bars"].height == 2

    @pytest.mark.parametrize(
        ("body", "error"),
        [
            ({"symbol": "FPT", "data_day": []}, NoData),
            ([], NoData),
            ([{"symbol": "FPT", "o": [], "h": [], "l": [], "c": [], "v": [], "t": []}], NoData),
            ({"errorCode": "4000014", "message": "invalid range"}, Malformed),
            ({"symbol": "HPG", "data_day": KBS_BODY["data_day"]}, Malformed),
            ([{**VCI_BODY[0], "symbol": "HPG"}], Malformed),
            ([{**VCI_BODY[0], "o": [1]}], Malformed),
            ([{**VCI_BODY[0], "t": ["1717459200", "1717470000"]}], Malformed),
            (
                {"symbol": "FPT", "data_day": [{"t": "2024-06-05 09:15", "o": 1}, {"t": "2024-06-05 09:16", "o": 2}]},
                Malformed,
            ),
            ({"symbol": "FPT", "data_day": [{"t": "05-06-2024", "o": 1, "h": 1, "l": 1, "c": 1}]}, Malformed),
            (b"<html>Attention Required!</html>", Blocked),
            (b"", Malformed),
        ],
    )
    def test_what_is_not_daily_data_of_the_symbol_is_a_typed_error(self, body: Any, error: type[ProviderError]) -> None:
        with pytest.raises(error):
            KbsProvider().parse(recorded(body))


class TestEvents:
    def parse(self, *rows: dict[str, Any]) -> tuple[pl.DataFrame, tuple[str, ...]]:
        said = said_by_vnstock("events", list(rows))
        parsed = VciProvider().parse(recorded(said, url="vnstock://vci/events", dataset="actions"))
        return parsed.frames["actions"], parsed.notes

    def test_a_bonus_issue_is_a_ratio_of_new_shares(self) -> None:
        frame, notes = self.parse(EVENT_ROW)
        assert frame.select("ex_date", "event_type", "bonus_ratio", "cash", "raw_symbol").rows() == [
            (date(2024, 6, 12), "bonus", 0.2, 0.0, "FPT")
        ]
        assert notes == ()

    @pytest.mark.parametrize(
        ("change", "why"),
        [
            ({"event_title_vi": "Phát hành cổ phiếu - Quyền mua CP cho Cổ đông hiện hữu tỉ lệ 20.0%"}, "subscription"),
            ({"event_title_vi": "Phát hành cổ phiếu - Phát hành riêng lẻ tỉ lệ 20.0%"}, "another kind"),
            ({"event_title_vi": "Cổ phiếu thưởng cho CBCNV tỉ lệ 20.0%"}, "another kind"),
            ({"event_title_vi": None}, "another kind"),
            ({"event_title_vi": "Cổ phiếu thưởng tỉ lệ 10:3"}, "contradicts"),
            ({"event_code": "AIS"}, "another kind"),
            ({"event_code": "DIV"}, "another kind"),
            ({"exright_date": None}, "without an ex-date"),
            ({"exercise_ratio": 0}, "without a size"),
            ({"exercise_ratio": None}, "without a size"),
            ({"exercise_ratio": 2.0}, "contradicts"),
        ],
    )
    def test_what_is_not_certain_is_counted_instead(self, change: dict[str, Any], why: str) -> None:
        frame, (note,) = self.parse({**EVENT_ROW, **change})
        assert frame.is_empty()
        assert "1 " in note
        assert why in note

    def test_two_dividends_on_one_ex_date_are_two_and_a_repeated_one_is_one(self) -> None:
        row = {**EVENT_ROW, "event_code": "DIV", "exercise_ratio": 0.1, "value_per_share": 1000}
        stages = [{**row, "event_title_vi": f"Trả cổ tức đợt {n} bằng tiền"} for n in (1, 2, 2)]
        frame, (note,) = self.parse(*stages)
        assert frame.select("event_type", "cash").rows() == [("cash", 1000.0)] * 2
        assert "said twice" in note

    @pytest.mark.parametrize("printed", ["20.0%", "20,0%", "10:2", "100 : 20", "như nghị quyết"])
    def test_a_title_may_print_the_ratio_in_several_ways_or_not_at_all(self, printed: str) -> None:
        frame, _ = self.parse({**EVENT_ROW, "event_title_vi": f"Trả Cổ tức bằng Cổ phiếu tỉ lệ {printed}"})
        assert frame.select("event_type", "bonus_ratio").rows() == [("stock_dividend", 0.2)]

    def test_decomposed_vietnamese_reads_the_same(self) -> None:
        import unicodedata

        title = unicodedata.normalize("NFD", EVENT_ROW["event_title_vi"])
        assert self.parse({**EVENT_ROW, "event_title_vi": title})[0]["event_type"].to_list() == ["bonus"]

    def test_a_full_page_warns_that_older_events_may_be_missing(self) -> None:
        rows = [{**EVENT_ROW, "exright_date": f"2024-01-{1 + n % 28:02}", "id": n} for n in range(50)]
        assert any("full page" in note for note in self.parse(*rows)[1])


def paths(content: Any) -> list[tuple[Any, ...]]:
    """Every place in a JSON document."""
    found: list[tuple[Any, ...]] = [()]
    items = content.items() if isinstance(content, dict) else enumerate(content) if isinstance(content, list) else ()
    for key, value in items:
        found += [(key, *rest) for rest in paths(value)]
    return found


JUNK = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=True),
    st.text(max_size=12),
    st.just([]),
    st.just({}),
    st.just([[]]),
).map(copy.deepcopy)
SAMPLES = [
    (KBS_BODY, "https://host/"),
    (VCI_BODY, "https://host/"),
    (said_by_vnstock("history", KBS_BODY["data_day"], "KBS", asset_type="stock"), "vnstock://kbs/history"),
    (said_by_vnstock("history", [{"time": "2024-06-05", "open": 1, "high": 1, "low": 1, "close": 1}]), "vnstock://x"),
    (said_by_vnstock("listing", [{"symbol": "FPT", "type": "STOCK", "exchange": "HSX"}]), "vnstock://vci/listing"),
    (said_by_vnstock("events", [EVENT_ROW]), "vnstock://vci/events"),
]


@settings(deadline=None)
@given(sample=st.sampled_from(SAMPLES), data=st.data())
def test_damaged_answers_only_ever_raise_typed_errors(sample: tuple[Any, str], data: st.DataObject) -> None:
    content, url = copy.deepcopy(sample)
    for _ in range(data.draw(st.integers(1, 3))):
        *way, last = data.draw(st.sampled_from([path for path in paths(content) if path]))
        place = content
        for key in way:
            place = place[key]
        if data.draw(st.booleans()):
            place[last] = data.draw(JUNK)
        else:
            del place[last]
        if not content:
            break
    try:
        parsed = VciProvider().parse(recorded(content, url=url))
    except ProviderError:
        return
    for dataset, frame in parsed.frames.items():
        assert dict(frame.schema) == dict(RAW_FRAMES[dataset])
