"""What a company is worth: nothing is known before it was published, and every ratio is what its name says."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import DAYS, US, Bench, action, answer, bar, content, scripted
from tests.test_across import describe, one, row, tell
from tests.test_fundamentals import cleaned
from tests.test_known_figures import QUARTERS, READ, claiming, said, year
from vprism_pipelines.market.valuation import CLAIMS
from vprism_pipelines.quality.revisions import classify_terms
from vprism_pipelines.warehouse import across, ledger, schema
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.market_tables import TABLES
from vprism_pipelines.warehouse.writer import next_batch

BROKER = scripted("broker")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(Lake(tmp_path)) as opened:
        yield opened


def report(bench: Bench, *figures: dict[str, Any], at: datetime = READ, provider: str = "one") -> None:
    """One answer about figures, remembered."""
    batch = next_batch(bench.connection)
    rows = cleaned(figures, at=at, fetch_id=f"f{batch}").accepted
    assert rows.height == len(figures)
    rows = rows.with_columns(provider=pl.lit(provider))
    ledger.remember(bench.connection, ledger.FUNDAMENTALS, rows, batch, classify_terms)


def trade(bench: Bench, closes: dict[int, float], *actions: dict[str, Any], **fields: Any) -> None:
    """Bars of some sessions and corporate actions, from the answer to the last table."""
    span = DAYS[min(closes)], DAYS[max(closes)]
    body = answer([bar("A", DAYS[n], close, **fields) for n, close in closes.items()], actions)
    batch = next_batch(bench.connection)
    bench.pull(BROKER, body, READ + timedelta(seconds=batch), span)
    bench.refresh()


def worth(bench: Bench, column: str) -> list[Any]:
    """A column of the valuation, session by session."""
    query = f"SELECT {column} FROM analytics.valuation WHERE symbol = 'US:STOCK:A' ORDER BY session"
    return [value for (value,) in bench.connection.execute(query).fetchall()]


# --- what it is worth -------------------------------------------------------------------------------------------------


def test_a_price_is_measured_against_what_had_been_published_by_then(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[3]), *year("net_income", 1, 2, 3, 4))
    published = [n for n, day in enumerate(DAYS) if day <= QUARTERS[4] + timedelta(days=30)][-1]
    trade(bench, {published: 10.0, published + 1: 20.0})
    assert worth(bench, "market_cap") == [1000.0, 2000.0]
    assert worth(bench, "pe") == [None, 200.0]


def test_a_restatement_changes_today_and_not_what_was_known_before_it(bench: Bench) -> None:
    quarters = year("net_income", 1, 2, 3, 4)
    first, second = datetime(2024, 2, 20, tzinfo=UTC), datetime(2024, 6, 3, 12, tzinfo=UTC)
    report(bench, said("shares_outstanding", 100, QUARTERS[3]), *quarters, at=first)
    report(bench, quarters[0] | {"value": 11.0}, at=second)
    days = [DAYS.index(date(2024, 6, day)) for day in (3, 4)]
    trade(bench, dict.fromkeys(days, 10.0))
    assert worth(bench, "pe") == [100.0, 50.0]
    assert one(bench, "latest")["pe"] == 50.0


def test_losses_and_used_up_equity_have_no_multiple(bench: Bench) -> None:
    report(
        bench,
        said("shares_outstanding", 100, QUARTERS[4]),
        *year("net_income", 1, -2, -3, -4),
        said("equity", -500, QUARTERS[4]),
        said("revenue", 50, QUARTERS[4], "Y"),
    )
    trade(bench, {60: 10.0})
    assert [worth(bench, name) for name in ("market_cap", "pe", "pb", "ps")] == [[1000.0], [None], [None], [20.0]]


def test_return_on_equity_is_of_the_mean_of_the_years_ends(bench: Bench) -> None:
    report(
        bench, *year("net_income", 1, 2, 3, 4), said("equity", 60, QUARTERS[0]), said("equity", 140, QUARTERS[4], "Y")
    )
    trade(bench, {60: 10.0})
    assert worth(bench, "roe") == [0.1]
    report(bench, said("net_income", 5, QUARTERS[5]))
    trade(bench, {90: 10.0})
    assert worth(bench, "roe") == [0.1, None], "nobody says what the equity is by now"


def test_figures_in_another_currency_than_the_price_give_no_multiple(bench: Bench) -> None:
    report(
        bench,
        said("shares_outstanding", 100, QUARTERS[4]),
        *year("net_income", 1, 2, 3, 4, currency="EUR"),
        said("equity", 500, QUARTERS[4], currency="EUR"),
    )
    trade(bench, {60: 10.0})
    assert [worth(bench, name) for name in ("market_cap", "pe", "pb")] == [[1000.0], [None], [None]]
    report(bench, said("equity", 500, QUARTERS[5]))
    trade(bench, {90: 10.0})
    assert worth(bench, "pb")[-1] == 2.0
    bench.connection.execute("UPDATE golden.bars SET currency = 'EUR'")
    assert worth(bench, "pb")[-1] is None


def test_absurd_figures_value_nothing_and_break_nothing(bench: Bench) -> None:
    describe(bench, {"A": "Banks"})
    counted(bench, A=1e30)
    for n in (20, 21):
        tell(bench, [row("A", n, ret_1d=0.1)])
    assert worth(bench, "shares_outstanding") == [None, None]
    assert one(bench, "sectors", session=DAYS[21])["cap_return"] is None


def test_nothing_is_measured_against_a_company_that_stopped_reporting(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]), said("equity", 500, QUARTERS[4]))
    last = [n for n, day in enumerate(DAYS) if day <= QUARTERS[4] + timedelta(days=550)][-1]
    trade(bench, {last: 10.0, last + 1: 10.0})
    assert worth(bench, "pb") == [2.0, None]
    assert worth(bench, "market_cap") == [1000.0] * 2


def split(n: int, ratio: float = 2.0) -> dict[str, Any]:
    return action("A", DAYS[n], event_type="split", split_ratio=ratio)


def test_shares_are_split_with_the_price_from_the_ex_date_on(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]), said("equity", 500, QUARTERS[4]))
    trade(bench, {60: 10.0, 61: 10.0, 62: 5.0, 63: 5.0}, split(62), volume=50.0)
    assert worth(bench, "shares_outstanding") == [100, 100, 200, 200]
    assert worth(bench, "market_cap") == [1000.0] * 4
    assert worth(bench, "pb") == [2.0] * 4
    assert worth(bench, "turnover") == [0.5, 0.5, 0.25, 0.25]


def test_a_count_made_after_a_split_has_it_and_one_that_is_repeated_has_not_heard_of_it(bench: Bench) -> None:
    count = said("shares_outstanding", 100, DAYS[60], "D", published=DAYS[60])
    repeated = said("shares_outstanding", 100, DAYS[63], "D", published=DAYS[63])
    counted = said("shares_outstanding", 201, DAYS[65], "D", published=DAYS[65])
    report(bench, count, repeated, counted)
    trade(bench, {61: 10.0, 62: 5.0, 64: 5.0, 66: 5.0}, split(62))
    assert worth(bench, "shares_outstanding") == [100, 200, 200, 201]


def test_a_count_of_the_ex_date_itself_has_the_split(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 200, DAYS[62], "D", published=DAYS[62]))
    trade(bench, {61: 10.0, 62: 5.0, 63: 5.0}, split(62))
    assert worth(bench, "shares_outstanding") == [None, None, 200]


def test_a_dividend_yields_on_the_price_as_traded_per_share_of_today_for_a_year(bench: Bench) -> None:
    first, second = (next(n for n, day in enumerate(DAYS) if day >= DAYS[k].replace(year=2025)) for k in (5, 8))
    closes = dict.fromkeys(range(4, 8), 10.0) | dict.fromkeys((8, first - 1, first, second), 5.0)
    trade(bench, closes, action("A", DAYS[5], cash=0.4), action("A", DAYS[8], cash=0.6), split(8))
    # 0.4 and 0.6 per old share are 0.2 and 0.3 per new one.
    assert worth(bench, "round(dividend_yield, 12)") == [None, 0.04, 0.04, 0.04, 0.1, 0.1, 0.06, 0.0]
    assert one(bench, "latest")["dividend_yield"] == 0.0


def test_a_price_that_nobody_traded_at_values_nothing(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]))
    trade(bench, {60: 10.0})
    bench.connection.execute("UPDATE golden.bars SET price_basis = 'adjusted_by_source'")
    assert worth(bench, "market_cap") == [None]
    assert worth(bench, "shares_outstanding") == [100]


def test_a_bar_that_nobody_traded_values_nothing(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]))
    trade(bench, {64: 10.0})
    trade(bench, {65: 10.0}, split(65), volume=0.0)  # suspended over its ex-date: the old close is carried on
    trade(bench, {66: 5.0})
    assert worth(bench, "market_cap") == [1000.0, None, 1000.0]
    assert worth(bench, "shares_outstanding") == [100, 200, 200]
    assert worth(bench, "turnover") == [10.0, 0.0, 5.0]


def test_the_figures_of_a_promoted_parser_count(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]), provider="one@2")
    trade(bench, {60: 10.0})
    assert worth(bench, "market_cap") == [1000.0]


# --- sectors ----------------------------------------------------------------------------------------------------------


def counted(bench: Bench, **shares: float) -> None:
    report(bench, *(said("shares_outstanding", count, QUARTERS[3], raw_symbol=code) for code, count in shares.items()))


def idle(bench: Bench, code: str, n: int, close: float) -> None:
    """A bar of a session on which nobody traded, like the one before it but for its close."""
    bench.connection.execute(
        """INSERT INTO golden.bars BY NAME SELECT * REPLACE (? AS session, ? AS close, 0 AS volume) FROM golden.bars
           WHERE symbol = ? ORDER BY session DESC LIMIT 1""",
        [DAYS[n], close, f"US:STOCK:{code}"],
    )


def test_a_sector_returns_what_its_stocks_do_weighted_with_their_caps_of_the_session_before(bench: Bench) -> None:
    describe(bench, dict.fromkeys("ABCD", "Banks"))
    counted(bench, A=100, B=300, C=50)
    tell(bench, [row(code, 20, close=close) for code, close in zip("ABCD", (10.0, 20.0, 40.0, 99.0), strict=True)])
    assert one(bench, "sectors")["cap_return"] is None  # there is no session before
    moved = {"A": (20.0, 0.1), "B": (1.0, -0.2), "C": (2.0, None), "D": (1.0, 9.0)}
    tell(bench, [row(code, 21, close=close, ret_1d=ret) for code, (close, ret) in moved.items()])
    # A was worth 1,000 and B 6,000; C has no return and D no cap.
    assert one(bench, "sectors", session=DAYS[21])["cap_return"] == pytest.approx((100 - 1200) / 7000)


def test_a_sector_of_which_no_cap_is_known_has_no_weighted_return(bench: Bench) -> None:
    describe(bench, {"A": "Banks"})
    for n in (20, 21):
        tell(bench, [row("A", n, ret_1d=0.1)])
    assert [value for (value,) in bench.connection.execute("SELECT cap_return FROM analytics.sectors").fetchall()] == [
        None
    ] * 2


def test_a_stock_that_nobody_traded_weighs_what_it_was_worth_at_its_last_trade(bench: Bench) -> None:
    describe(bench, dict.fromkeys("AB", "Banks"))
    counted(bench, A=100, B=100)
    tell(bench, [row("A", 20), row("B", 20), row("B", 21)])
    idle(bench, "A", 21, close=99.0)
    tell(bench, [row("A", 22, ret_1d=0.1), row("B", 22, ret_1d=0.5)])
    assert one(bench, "sectors", session=DAYS[22])["cap_return"] == pytest.approx(0.3)


def test_a_cap_of_long_ago_weighs_nothing(bench: Bench) -> None:
    describe(bench, dict.fromkeys("AB", "Banks"))
    counted(bench, A=100, B=100)
    late = next(n for n, day in enumerate(DAYS) if day > DAYS[20] + timedelta(days=across.CAP_DAYS))
    before = [row(code, 20, ret_1d=0.0) for code in "AB"] + [row("A", late - 1, ret_1d=0.0)]
    tell(bench, before)
    idle(bench, "B", late - 1, close=10.0)  # which is not to have traded
    tell(bench, [row("A", late, ret_1d=0.1), row("B", late, ret_1d=0.5)])
    assert one(bench, "sectors", session=DAYS[late])["cap_return"] == pytest.approx(0.1)


# --- incremental ------------------------------------------------------------------------------------------------------

PIECES = st.lists(
    st.lists(
        st.tuples(
            st.sampled_from("AB"),
            st.sampled_from(["shares_outstanding", "net_income", "equity"]),
            st.sampled_from(QUARTERS),
            st.sampled_from(["Q", "Y"]),
            st.integers(1, 3),
        ),
        min_size=1,
        max_size=8,
        unique_by=lambda told: told[:4],
    ),
    min_size=2,
    max_size=3,
)


@settings(max_examples=6, deadline=None)
@given(pieces=PIECES)
def test_in_whatever_pieces_figures_and_bars_come_the_tables_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory, pieces: list[list[tuple[str, str, date, str, int]]]
) -> None:
    starts = range(20, 20 + 10 * len(pieces), 10)
    answers = [
        [
            said(item, 100.0 * value, end, kind, raw_symbol=code, published=None)
            for code, item, end, kind, value in piece
            if end < DAYS[first]
        ]
        for first, piece in zip(starts, pieces, strict=True)
    ]
    bars = [
        [
            row(code, n, close=10.0 + n % 7, ret_1d=n % 5 / 100, ret_252d=n % 3 / 10)
            for n in range(first, first + 10)
            for code in "AB"
        ]
        for first in starts
    ]
    lake = Lake(tmp_path_factory.mktemp("lake"))
    with Bench(lake) as lived, Bench(lake) as made:
        for bench in (lived, made):
            describe(bench, {"A": "Banks", "B": "Banks"})
        for first, figures, piece in zip(starts, answers, bars, strict=True):
            read = datetime.combine(DAYS[first], datetime.min.time(), UTC)
            for bench in (lived, made):
                if figures:
                    report(bench, *figures, at=read)
            across.build_market(lived.connection, US)
            tell(lived, piece)
        tell(made, [told for piece in bars for told in piece])
        before, after = content(lived), content(made)
        for table in TABLES:
            assert before[table.full_name].equals(after[table.full_name]), table.full_name


def test_a_new_session_costs_one_session_and_a_late_figure_what_rests_on_it(bench: Bench) -> None:
    describe(bench, {"A": "Banks"})
    counted(bench, A=100)
    for n in range(20, 30):
        tell(bench, [row("A", n, ret_1d=0.1)])
    tell(bench, [row("A", 30, ret_1d=0.1)])
    assert across.build_market(bench.connection, US).written == 0
    # Published on the 22nd session and read long after it: the sessions since then are weighted with it.
    report(bench, said("shares_outstanding", 70, QUARTERS[4], published=DAYS[26]))
    done = across.build_market(bench.connection, US)
    assert (done.detail["figures"], done.detail["sectors"]) == (1, 4)
    assert one(bench, "latest")["market_cap"] == 700.0
    report(bench, said("shares_outstanding", 70, QUARTERS[4], published=DAYS[26]))
    assert across.build_market(bench.connection, US).written == 0


def test_a_figure_touches_the_sectors_since_then_and_the_quotes_of_its_company_only(bench: Bench) -> None:
    describe(bench, dict.fromkeys("AB", "Banks"))
    for n in range(20, 25):
        tell(bench, [row(code, n, ret_1d=0.1, ret_252d=0.1, adv_20=1.0) for code in "AB"])
    report(bench, said("shares_outstanding", 70, QUARTERS[4], published=DAYS[21]))
    done = across.build_market(bench.connection, US)
    assert done.touched == 1
    assert done.detail == {"figures": 1, "breadth": 0, "sectors": 3, "ratings": 0, "latest": 1, "correlation": 0}


def test_where_another_claim_is_made_every_company_is_looked_at_again(bench: Bench) -> None:
    describe(bench, dict.fromkeys("AB", "Banks"))
    counted(bench, A=100, B=300)
    for n in (20, 21):
        tell(bench, [row("A", n, ret_1d=0.0), row("B", n, ret_1d=0.4)])
    with claiming(*(replace(claim, item=claim.item.replace("shares_outstanding", "units")) for claim in CLAIMS)):
        report(bench, said("units", 200, QUARTERS[3], unit="shares"))
        across.build_market(bench.connection, US)
        caps = bench.frame("SELECT market_cap FROM analytics.latest ORDER BY symbol")["market_cap"].to_list()
        assert caps == [2000.0, None]
        assert one(bench, "sectors", session=DAYS[21])["cap_return"] == 0.0
        assert across.build_market(bench.connection, US).written == 0
    across.build_market(bench.connection, US)
    assert one(bench, "sectors", session=DAYS[21])["cap_return"] == pytest.approx(0.3)


def test_another_order_of_providers_decides_what_was_read_before_it_too(bench: Bench) -> None:
    for provider, count in (("one", 100), ("two", 300)):
        report(bench, said("shares_outstanding", count, QUARTERS[3]), provider=provider)
    tell(bench, [row("A", 20)])
    for best, cap in (("one", 1000.0), ("two", 3000.0), ("one", 1000.0)):
        across.build_market(bench.connection, replace(US, providers=(best,)))
        assert one(bench, "latest")["market_cap"] == cap


def test_a_warehouse_of_before_is_filled_with_what_it_lacked(bench: Bench) -> None:
    report(bench, said("shares_outstanding", 100, QUARTERS[4]))
    trade(bench, {60: 10.0})
    was = content(bench)
    bench.connection.execute("UPDATE analytics.latest SET market_cap = NULL; DROP TABLE analytics.figures CASCADE")
    bench.connection.execute("DELETE FROM ops.watermarks WHERE stage = 'analytics.figures'")
    bench.connection.execute("DELETE FROM ops.migrations WHERE number = 4; UPDATE ops.migrations SET stamp = 'before'")
    schema.ensure(bench.connection)
    bench.build()
    assert content(bench)["analytics.latest"].equals(was["analytics.latest"])
    assert worth(bench, "market_cap") == [1000.0]
