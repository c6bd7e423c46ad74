"""Reported figures: whose they are, when they could be known, and that nobody sees one before."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import Bench
from vprism_pipelines import tables
from vprism_pipelines.market.filings import DEADLINES, filed_by
from vprism_pipelines.market.spec import MARKETS, MarketSpec, market
from vprism_pipelines.providers.base import Payload, Request, raw_frame
from vprism_pipelines.quality.revisions import classify_terms
from vprism_pipelines.quality.rows import Cleaned
from vprism_pipelines.warehouse import ledger
from vprism_pipelines.warehouse.ingest import clean_raw
from vprism_pipelines.warehouse.lake import Lake

US, VN = market("us"), market("vn")
Q1 = date(2024, 3, 31)
READ = datetime(2026, 11, 20, 22, tzinfo=UTC)


def figure(value: float | None = 1.5, **fields: Any) -> dict[str, Any]:
    """A figure as a parser gives it: AAPL's quarterly earnings per share unless told otherwise."""
    plain = {
        "raw_symbol": "AAPL",
        "period_end": Q1,
        "period_kind": "Q",
        "statement": "earnings",
        "item": "eps",
        "value": value,
        "unit": "per_share",
    }
    return plain | fields


def cleaned(
    figures: Sequence[dict[str, Any]], spec: MarketSpec = US, at: datetime = READ, fetch_id: str = "f"
) -> Cleaned:
    """The rows of one pull."""
    request = Request("one", "fundamentals", spec.code, None, None, None, None)
    payload = Payload(request, 200, b"", at, fetch_id=fetch_id)
    raw = raw_frame("fundamentals", pl.DataFrame(figures, infer_schema_length=None), payload)
    pulls = pl.DataFrame({"fetch_id": [fetch_id], "provider": ["one"], "fetched_at": [at]})
    return clean_raw(raw, pulls.with_columns(pl.col("fetched_at").cast(pl.Datetime("us", "UTC"))), spec, "fundamentals")


def availability(*figures: dict[str, Any], spec: MarketSpec = US, at: datetime = READ) -> list[tuple[Any, ...]]:
    rows = cleaned(figures, spec, at).accepted
    return rows.select("available_from", "estimated").rows()


# --- when a figure could be known -----------------------------------------------------------------------------------


def test_a_declared_figure_may_be_used_from_the_day_after_it_was_published() -> None:
    assert availability(figure(published=date(2024, 4, 25))) == [(date(2024, 4, 26), False)]


def test_without_a_declaration_the_deadline_for_filing_counts_and_is_marked_as_an_estimate() -> None:
    assert availability(figure()) == [(Q1 + timedelta(days=46), True)]
    assert availability(figure(raw_symbol="FPT"), spec=VN) == [(Q1 + timedelta(days=31), True)]
    assert availability(figure(raw_symbol="FPT", period_end=date(2015, 9, 30)), spec=VN) == [
        (date(2015, 9, 30) + timedelta(days=46), True)
    ]


def test_the_last_quarter_of_a_fiscal_year_comes_with_the_annual_report() -> None:
    september, december = date(2023, 9, 30), date(2023, 12, 31)
    assert availability(figure(period_end=december)) == [(december + timedelta(days=91), True)]
    year = figure(period_end=september, period_kind="Y", item="revenue")
    assert availability(figure(period_end=september), year) == [(september + timedelta(days=91), True)] * 2
    assert availability(figure(period_end=september)) == [(september + timedelta(days=46), True)]


def test_who_reads_a_figure_before_its_deadline_has_it_from_then_on() -> None:
    assert availability(figure(), at=datetime(2024, 4, 10, 12, tzinfo=UTC)) == [(date(2024, 4, 11), False)]


def test_a_publication_before_the_period_was_over_or_after_it_was_read_declares_nothing() -> None:
    for impossible in (Q1 - timedelta(days=1), READ.date() + timedelta(days=1)):
        found = cleaned([figure(published=impossible)]).accepted
        assert found.select("published", "estimated").rows() == [(None, True)]


def test_every_market_has_a_deadline_for_every_period_and_the_annual_report_comes_last() -> None:
    for spec in MARKETS.values():
        for end in (date(2005, 6, 30), date(2009, 12, 31), date(2024, 3, 31)):
            frame = pl.DataFrame({"kind": ["Q", "TTM", "Y", "D"], "end": [end] * 4})
            by = frame.select(filed_by(spec.code, pl.col("kind"), pl.col("end"), pl.lit(value=False))).to_series()
            quarter, trailing, year, day = by
            assert end == day < quarter == trailing <= year <= end + timedelta(days=125), (spec.code, end)
    assert {rule.market for rule in DEADLINES} == set(MARKETS)


# --- what a figure is -------------------------------------------------------------------------------------------------


def test_figures_are_in_whole_units_and_amounts_carry_a_currency() -> None:
    rows = cleaned(
        [
            figure(61_783.0, item="revenue", value_unit=1e9, unit="currency", raw_symbol="VNM"),
            figure(29.4, item="roe", value_unit=0.01, unit="ratio", raw_symbol="VNM"),
        ],
        VN,
    ).accepted
    assert rows.select("symbol", "value", "unit", "currency").rows() == [
        ("VN:STOCK:VNM", 61_783e9, "currency", "VND"),
        ("VN:STOCK:VNM", 0.294, "ratio", None),
    ]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [
        ({"value": None}, "missing_value"),
        ({"value": float("inf")}, "not_finite"),
        ({"period_end": None}, "missing_period"),
        ({"period_end": date(2027, 3, 31)}, "period_not_over"),
        ({"period_kind": "M"}, "unknown_period_kind"),
        ({"statement": "gossip"}, "unknown_statement"),
        ({"unit": "apples"}, "unknown_unit"),
        ({"currency": "dollars"}, "unknown_currency"),
        ({"raw_symbol": "EURUSD=X"}, "unknown_symbol"),
    ],
)
def test_a_figure_that_breaks_a_rule_is_set_aside_with_the_reason(broken: dict[str, Any], reason: str) -> None:
    raw = figure() | broken
    request = Request("one", "fundamentals", "us", None, None, None, None)
    frame = raw_frame("fundamentals", pl.DataFrame([raw]), Payload(request, 200, b"", READ, fetch_id="f"))
    pulls = pl.DataFrame({"fetch_id": ["f"], "provider": ["one"], "fetched_at": [READ]})
    found = clean_raw(frame, pulls, US, "fundamentals")
    assert (found.accepted.height, found.quarantined["reasons"].to_list()) == (0, [[reason]])


def test_two_values_for_one_figure_in_one_answer_are_both_refused() -> None:
    found = cleaned([figure(1.0), figure(2.0), figure(3.0, item="other")])
    assert found.accepted["item"].to_list() == ["other"]
    assert found.reasons() == {"contradicting_duplicate": 2}
    assert cleaned([figure(1.0), figure(1.0)]).accepted.height == 1


# --- point in time ----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    with Bench(Lake(tmp_path_factory.mktemp("lake"))) as made:
        yield made


def told(bench: Bench, *deliveries: tuple[datetime, Sequence[dict[str, Any]]]) -> duckdb.DuckDBPyConnection:
    """An empty ledger that was told these figures, one pull each."""
    bench.connection.execute(f"DELETE FROM {tables.CLEAN_FUNDAMENTALS.full_name}")
    pulls = [cleaned(figures, at=at, fetch_id=f"f{number}").accepted for number, (at, figures) in enumerate(deliveries)]
    ledger.remember(bench.connection, ledger.FUNDAMENTALS, pl.concat(pulls), 1, classify_terms)
    return bench.connection


def seen(connection: duckdb.DuckDBPyConnection, at: datetime) -> list[tuple[Any, ...]]:
    return connection.execute(
        "SELECT value, backfilled FROM clean.fundamentals_as_of($1::TIMESTAMPTZ) ORDER BY period_end, item", [at]
    ).fetchall()


def test_as_of_shows_what_had_been_published_by_then_and_says_what_we_only_learnt_later(bench: Bench) -> None:
    connection = told(bench, (READ, [figure(published=date(2024, 4, 25))]))
    assert seen(connection, datetime(2024, 4, 25, 23, tzinfo=UTC)) == []
    # Midnight in New York, not in Greenwich.
    assert seen(connection, datetime(2024, 4, 26, 3, 59, tzinfo=UTC)) == []
    assert seen(connection, datetime(2024, 4, 26, 4, tzinfo=UTC)) == [(1.5, True)]
    assert seen(connection, READ) == [(1.5, False)]


def test_a_restated_figure_is_not_seen_before_it_was_restated(bench: Bench) -> None:
    first, second = datetime(2024, 6, 1, tzinfo=UTC), datetime(2024, 9, 1, tzinfo=UTC)
    connection = told(bench, (first, [figure(1.5)]), (second, [figure(1.2)]))
    assert seen(connection, datetime(2024, 5, 20, tzinfo=UTC)) == [(1.5, True)]
    assert seen(connection, second - timedelta(seconds=1)) == [(1.5, False)]
    assert seen(connection, second) == [(1.2, False)]


def test_many_figures_restated_at_once_are_each_a_restatement(bench: Bench) -> None:
    items = ("a", "b", "c")
    versions = [[figure(value, item=item) for item in items] for value in (1.0, 2.0)]
    connection = told(bench, (READ, versions[0]), (READ + timedelta(days=1), versions[1]))
    named = connection.execute("SELECT change_class, count(*) FROM clean.fundamentals_ledger GROUP BY 1 ORDER BY 1")
    assert named.fetchall() == [("new", 3), ("restatement", 3)]


def test_a_date_declared_later_takes_back_an_estimate_that_was_too_early(bench: Bench) -> None:
    connection = told(bench, (READ, [figure()]), (READ + timedelta(days=1), [figure(published=date(2024, 7, 1))]))
    assert seen(connection, datetime(2024, 6, 1, tzinfo=UTC)) == []
    assert seen(connection, datetime(2024, 7, 3, tzinfo=UTC)) == [(1.5, True)]


def test_the_same_figure_read_again_costs_no_row(bench: Bench) -> None:
    early = datetime(2024, 4, 10, tzinfo=UTC)
    connection = told(bench, *[(early + timedelta(days=n), [figure()]) for n in range(3)])
    stored = connection.execute("SELECT available_from, estimated, change_class FROM clean.fundamentals_ledger")
    assert stored.fetchall() == [(date(2024, 4, 10), False, "new")]  # read on the evening of the 9th in New York


BEGIN = datetime(2024, 1, 1, 17, tzinfo=UTC)
ENDS = (date(2023, 12, 31), date(2024, 3, 31), date(2024, 6, 30), date(2024, 9, 30))


def delivered(
    delivery: tuple[int, list[tuple[str, int, int, int | None]]],
) -> tuple[datetime, list[dict[str, Any]]]:
    """A pull on some day, and the figures it brought: item, period, value, day of publication."""
    day, figures = delivery
    return BEGIN + timedelta(days=day), [
        figure(
            float(value),
            item=item,
            period_end=ENDS[period],
            published=None if published is None else BEGIN.date() + timedelta(days=published),
        )
        for item, period, value, published in figures
    ]


days = st.integers(0, 900)
deliveries = st.lists(
    st.tuples(
        days,  # of the pull
        st.lists(
            st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 3), st.integers(1, 3), st.none() | days),
            min_size=1,
            max_size=4,
            unique_by=lambda told: told[:2],
        ),
    ),
    min_size=1,
    max_size=4,
    unique_by=lambda delivery: delivery[0],
)


@settings(max_examples=25, deadline=None)
@given(deliveries=deliveries, ask=days)
def test_no_figure_is_seen_before_the_day_from_which_it_may_be_used(
    bench: Bench, deliveries: list[tuple[int, list[tuple[str, int, int, int | None]]]], ask: int
) -> None:
    connection = told(bench, *map(delivered, deliveries))
    now = BEGIN + timedelta(days=ask)
    today = now.astimezone(ZoneInfo(US.timezone)).date()
    shown = connection.execute(
        "SELECT item, period_end, available_from, published, known_from, value, backfilled"
        " FROM clean.fundamentals_as_of($1::TIMESTAMPTZ)",
        [now],
    ).fetchall()
    assert len({row[:2] for row in shown}) == len(shown)
    for item, end, available, published, known, value, backfilled in shown:
        assert end < available <= today
        assert published is None or published < today
        assert backfilled == (known > now)
        # It is what the newest pull until then said, or the first of all, when there was none.
        said = [
            (day, figure[2])
            for day, figures in sorted(deliveries)
            for figure in figures
            if (figure[0], ENDS[figure[1]]) == (item, end) and end <= (BEGIN + timedelta(days=day)).date()
        ]
        by_then = [told for day, told in said if day <= ask]
        assert value == (by_then[-1] if by_then else said[0][1])


def test_a_join_with_the_timeline_never_takes_a_restated_value_or_an_old_period_for_the_newest(bench: Bench) -> None:
    later = READ + timedelta(days=7)
    second = figure(3.0, period_end=date(2024, 6, 30), published=date(2024, 7, 25))
    told(
        bench,
        (READ, [figure(1.5, published=date(2024, 4, 25)), second]),
        (later, [figure(1.2, published=date(2024, 4, 25)), second]),
    )
    shown = bench.frame("SELECT visible_from, period_end, value FROM clean.fundamentals_timeline ORDER BY ALL").rows()
    assert shown == [(date(2024, 4, 26), Q1, 1.5), (date(2024, 7, 26), date(2024, 6, 30), 3.0)]


@settings(max_examples=25, deadline=None)
@given(deliveries=deliveries, ask=days)
def test_the_timeline_says_of_every_day_what_as_of_says_of_its_midnight(
    bench: Bench, deliveries: list[tuple[int, list[tuple[str, int, int, int | None]]]], ask: int
) -> None:
    connection = told(bench, *map(delivered, deliveries))
    day = (BEGIN + timedelta(days=ask)).date()
    midnight = datetime.combine(day, time.min, ZoneInfo(US.timezone))
    newest = connection.execute(
        """SELECT item, max(period_end), arg_max(value, period_end)
           FROM clean.fundamentals_as_of($1::TIMESTAMPTZ) GROUP BY item ORDER BY item""",
        [midnight],
    ).fetchall()
    joined = connection.execute(
        """SELECT t.item, t.period_end, t.value FROM (SELECT unnest(['a', 'b']) AS item, $1::DATE AS day) AS d
           ASOF JOIN clean.fundamentals_timeline AS t ON d.item = t.item AND d.day >= t.visible_from ORDER BY t.item""",
        [day],
    ).fetchall()
    assert joined == newest


# --- real figures -----------------------------------------------------------------------------------------------------

QUARTER_END = pl.date("year", pl.col("quarter") * 3, 1).dt.month_end()


@pytest.mark.shared
def test_real_vietnamese_statements_are_remembered_whole_and_dated(shared_data: Path, bench: Bench) -> None:
    statements = {"balance_sheet": "balance", "income_statement": "income", "cash_flow": "cash_flow"}
    real = pl.read_parquet(shared_data / "vn_vci_statements_vn30.parquet").drop_nulls("value")
    names = real["statement"].unique().to_list()
    rows = real.filter(pl.col("quarter").is_between(1, 4)).select(
        raw_symbol="symbol",
        period_end=QUARTER_END,
        period_kind=pl.lit("Q"),
        statement=pl.col("statement").replace(statements),
        item="item",
        value="value",
        unit=pl.lit("currency"),
    )
    request = Request("vci", "fundamentals", "vn", None, None, None, None)
    raw = raw_frame("fundamentals", rows, Payload(request, 200, b"", READ, fetch_id="f"))
    pulls = pl.DataFrame({"fetch_id": ["f"], "provider": ["vci"], "fetched_at": [READ]})
    found = clean_raw(raw, pulls, VN, "fundamentals")
    assert set(names) <= {*statements, "note"}, names
    assert found.rows == rows.height
    assert found.accepted.height > 0.99 * rows.height, found.reasons()
    assert found.accepted["estimated"].all()
    delay = (found.accepted["available_from"] - found.accepted["period_end"]).dt.total_days()
    assert (delay.min(), delay.max()) == (31, 46)
