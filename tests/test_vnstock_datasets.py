"""Vietnam beside bars: price boards, trades, statements, ratios and companies, as the source itself says them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from tests.provider_kit import check
from tests.test_vnstock import recorded
from tests.test_vnstock_package import new_child, real
from tests.vnstock_replay import KBS_BOARD, KBS_TRADES, NOW, RATIOS, STATEMENTS, VCI_BOARD, ReplayServer, fetch
from vprism_pipelines.errors import Malformed, NoData
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.base import Dataset, Request
from vprism_pipelines.providers.vnstock import KbsProvider, VciProvider, VnstockChild

FPT = "VN:STOCK:FPT"
DAY = date(2024, 6, 28)
CLOSED = datetime(2024, 6, 28, 7, 45, 4, 150_000, tzinfo=UTC)


def read(body: Any, dataset: Dataset = "bars", window: tuple[Any, Any] = (None, None)) -> pl.DataFrame:
    """The rows of an answer of one of the hosts."""
    (frame,) = check(VciProvider().parse(recorded(body, dataset=dataset, window=window))).frames.values()
    return frame


# --- what is asked ----------------------------------------------------------------------------------------------------


def test_boards_are_asked_for_fifty_symbols_at_a_time_and_trades_one_by_one_both_for_today() -> None:
    symbols = [f"VN:STOCK:A{a}{b}" for a in "ABCDEF" for b in "ABCDEFGHIJ"]
    boards = KbsProvider().plan("vn", "quotes", symbols, DAY, NOW.date(), NOW)
    assert [len(board.params["symbols"].split(",")) for board in boards] == [50, 10]
    trades = KbsProvider().plan("vn", "ticks", symbols, DAY, NOW.date(), NOW)
    assert len(trades) == 60
    assert {(asked.start, asked.end) for asked in (*boards, *trades)} == {(VN.today(NOW),) * 2}
    assert KbsProvider().capabilities().perishable is not None


def test_the_figures_of_a_share_are_the_company_three_statements_by_quarter_and_year_and_its_ratios() -> None:
    asked = VciProvider().plan("vn", "fundamentals", [FPT, "VN:INDEX:VNINDEX"], DAY, NOW.date(), NOW)
    assert [(request.part, request.cost) for request in asked] == [
        ("company", 1),
        ("balance_sheet_quarter", 2),
        ("balance_sheet_year", 2),
        ("income_statement_quarter", 2),
        ("income_statement_year", 2),
        ("cash_flow_quarter", 2),
        ("cash_flow_year", 2),
        ("ratio_quarter", 2),
    ]
    assert {request.symbol for request in asked} == {FPT}
    assert all(Request.from_json(request.to_json()) == request for request in asked)


# --- how it is read ---------------------------------------------------------------------------------------------------


def test_a_board_is_vnd_with_its_instant_and_without_what_has_not_traded() -> None:
    parsed = KbsProvider().parse(recorded(KBS_BOARD))
    rows = check(parsed).frames["quotes"]
    assert parsed.notes == ("1 without a trade",)
    assert rows.select("raw_symbol", "instant", "last", "bid", "ask", "reference", "value").rows() == [
        ("FPT", datetime(2024, 6, 28, 8, tzinfo=UTC), 131_000.0, 130_900.0, None, 130_000.0, 1_742_300_000.0)
    ]
    with pytest.raises(NoData):
        read([KBS_BOARD[1]])


def test_the_board_of_vci_states_value_in_millions() -> None:
    rows = read(VCI_BOARD)
    assert rows.select("raw_symbol", "instant", "last", "bid", "ask", "volume").rows() == [
        ("FPT", CLOSED, 131_000.0, 130_900.0, None, 13_300.0)
    ]
    assert rows.select(pl.col("value") * pl.col("value_unit")).item() == pytest.approx(131_000 * 13_300)


def test_trades_are_numbered_by_the_volume_so_far_and_dated_by_when_they_happened() -> None:
    rows = read({"data": KBS_TRADES})
    assert rows.select("instant", "seq", "price", "volume", "side").rows() == [
        (CLOSED, 13_300, 131_000.0, 9_000.0, "auction"),
        (datetime(2024, 6, 28, 3, 0, 1, 20_000, tzinfo=UTC), 4_300, 130_900.0, 300.0, "sell"),
        (datetime(2024, 6, 28, 2, 15, 3, 990_000, tzinfo=UTC), 4_000, 131_200.0, 4_000.0, "auction"),
    ]
    with pytest.raises(NoData):
        read({"data": KBS_TRADES}, window=(date(2024, 7, 1), date(2024, 7, 1)))


def test_trades_of_vci_keep_the_numbers_it_gives_them() -> None:
    trade = {"id": 502951720, "symbol": "FPT", "truncTime": "1719561600", "matchVol": "300.0", "matchPrice": "131000.0"}
    rows = read([{**trade, "matchType": side} for side in ("b", "s", "unknown")])
    assert rows.select("instant", "seq", "volume", "side").rows() == [
        (datetime(2024, 6, 28, 8, tzinfo=UTC), 502951720, 300.0, side) for side in ("buy", "sell", None)
    ]


def test_statements_have_their_quarter_and_the_day_they_were_published_on() -> None:
    said = STATEMENTS["INCOME_STATEMENT"]
    rows = read(said["quarters"][:2], "fundamentals")
    assert rows.select("period_end", "period_kind", "item", "value", "published").rows() == [
        (date(2024, 3, 31), "Q", "isa1", 3e9, None),
        (date(2023, 12, 31), "Q", "isa1", 4e9, None),
    ]
    years = read(said["years"][:1], "fundamentals")
    assert years.select("period_end", "period_kind", "value", "published").row(0) == (
        date(2023, 12, 31), "Y", 2023e9, date(2024, 3, 30)
    )  # fmt: skip
    with pytest.raises(Malformed):
        read([{**said["years"][0], "yearReport": "soon"}], "fundamentals")


def test_ratios_are_of_four_quarters_and_amounts_among_them_are_no_ratios() -> None:
    rows = read(RATIOS[:1], "fundamentals")
    assert rows.select("period_end", "period_kind", "item", "value", "unit").rows() == [
        (date(2024, 6, 30), "TTM", "pe", 14.5, "ratio"),
        (date(2024, 6, 30), "TTM", "marketCap", 9e13, "currency"),
        (date(2024, 6, 30), "TTM", "numberOfSharesMktCap", 1.46e9, "shares"),
    ]


# --- the real package -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def child() -> Iterator[VnstockChild]:
    with ReplayServer() as server:
        running = new_child(server)
        yield running
        asyncio.run(running.aclose())


@real
@pytest.mark.processes
class TestRealPackage:
    """One process, under its quota of 20 calls."""

    def test_vnstock_answers_boards_and_trades_with_their_instants(self, child: VnstockChild) -> None:
        for provider, at in ((KbsProvider(child), datetime(2024, 6, 28, 8, tzinfo=UTC)), (VciProvider(child), CLOSED)):
            (asked,) = provider.plan("vn", "quotes", [FPT], DAY, NOW.date(), NOW)
            quotes = check(provider.parse(fetch(provider, asked))).frames["quotes"]
            assert quotes.select("raw_symbol", "instant", "last").rows() == [("FPT", at, 131_000.0)]
        kbs = KbsProvider(child)
        asked = Request("kbs", "ticks", "vn", FPT, "FPT", DAY, DAY, url="vnstock://kbs/trades")
        assert check(kbs.parse(fetch(kbs, asked))).frames["ticks"]["seq"].to_list() == [13_300, 4_300, 4_000]

    def test_vnstock_grants_four_periods_of_a_statement_and_no_more_are_taken(self, child: VnstockChild) -> None:
        vci = VciProvider(child)
        company, quarters, years, *_, ratios = vci.plan("vn", "fundamentals", [FPT], DAY, NOW.date(), NOW)
        assert check(vci.parse(fetch(vci, company))).frames["fundamentals"]["item"].to_list() == [
            "numberOfSharesMktCap",
            "marketCap",
            "freeFloatPercentage",
        ]
        balance = check(vci.parse(fetch(vci, quarters))).frames["fundamentals"]
        assert balance["period_end"].to_list() == [
            date(2024, 3, 31),
            date(2023, 12, 31),
            date(2023, 9, 30),
            date(2023, 6, 30),
        ]
        assert balance["statement"].unique().to_list() == ["balance"]
        annual = check(vci.parse(fetch(vci, years))).frames["fundamentals"]
        assert annual["published"].to_list() == [date(year, 3, 30) for year in (2024, 2023, 2022, 2021)]
        assert check(vci.parse(fetch(vci, ratios))).frames["fundamentals"].height == 6

    def test_the_listing_of_vci_has_the_sectors_of_its_industries(self, child: VnstockChild) -> None:
        vci = VciProvider(child)
        (asked,) = vci.plan("vn", "instruments", [], DAY, NOW.date(), NOW)
        listed = check(vci.parse(fetch(vci, asked))).frames["instruments"]
        assert dict(listed.select("raw_symbol", "sector").iter_rows())["FPT"] == "Software & Services"
