"""What a user of the tables across symbols can rely on: quotes, breadth, sectors, ratings, correlation."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import DAYS, US, Bench, content
from vprism_pipelines.market.correlation import correlations
from vprism_pipelines.tables import GOLDEN_BARS, INSTRUMENTS
from vprism_pipelines.warehouse import across
from vprism_pipelines.warehouse.indicator_tables import DAILY, STATE
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.market_tables import TABLES

KNOWN = pl.datetime(2026, 1, 1, time_zone="UTC")
SESSIONS = DAYS[:12]
CODES = ("A", "B", "C", "D")


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    with Bench(Lake(tmp_path)) as opened:
        yield opened


def row(code: str, n: int, **figures: object) -> dict[str, object]:
    """A golden bar and its indicators in one."""
    plain: dict[str, object] = {
        "symbol": code if ":" in code else f"US:STOCK:{code}",
        "session": DAYS[n],
        "close": 10.0,
        "value": 1000.0,
        "exchange": "NYSE",
    }
    return plain | figures


def insert(bench: Bench, table: object, frame: pl.DataFrame) -> None:
    bench.connection.register("told", frame)
    bench.connection.execute(f"INSERT INTO {table} BY NAME SELECT * FROM told")
    bench.connection.unregister("told")


def tell(bench: Bench, rows: list[dict[str, object]]) -> None:
    """Bring bars and indicators in, in place of those that stand, as a build of `analytics.daily` would."""
    frame = pl.DataFrame(rows, infer_schema_length=None).with_columns(
        *(pl.col("close").alias(name) for name in ("open", "high", "low")),
        currency=pl.lit("USD"),
        chosen_provider=pl.lit("one"),
        n_sources=pl.lit(1),
        confidence=pl.lit(0.9),
        price_basis=pl.lit("raw"),
        flags=pl.lit(0),
        known_from=KNOWN,
        volume=pl.lit(100),
        bars=pl.lit(1),
        batch=pl.lit(1),
        stage=pl.lit("market"),
        from_session=pl.col("session"),
    )
    bench.connection.register("keys", frame.select("symbol", "session"))
    for table in (GOLDEN_BARS, DAILY):
        bench.connection.execute(
            f"DELETE FROM {table.full_name} AS t USING keys AS k WHERE t.symbol = k.symbol AND t.session = k.session"
        )
        insert(bench, table.full_name, frame.select(name for name in table.names if name in frame.columns))
    bench.connection.execute("DELETE FROM analytics.state WHERE symbol IN (SELECT symbol FROM keys)")
    bench.connection.unregister("keys")
    bench.connection.execute(
        f"INSERT INTO {STATE.full_name} BY NAME SELECT symbol, max(session) AS session FROM analytics.daily"
        " ANTI JOIN analytics.state USING (symbol) GROUP BY symbol"
    )
    insert(bench, "ops.dirty", frame.select("stage", "symbol", "from_session", "batch"))
    across.build_market(bench.connection, US)


def describe(bench: Bench, sectors: dict[str, str | None], provider: str = "yahoo", batch: int = 1) -> None:
    frame = pl.DataFrame(
        {"symbol": [f"US:STOCK:{code}" for code in sectors], "sector": list(sectors.values())}
    ).with_columns(
        provider=pl.lit(provider),
        currency=pl.lit("USD"),
        known_from=KNOWN,
        change_class=pl.lit("new"),
        fetch_id=pl.lit("f"),
        payload_row=pl.lit(0),
        batch=pl.lit(batch),
    )
    insert(bench, INSTRUMENTS.full_name, frame)


def one(bench: Bench, table: str, **where: object) -> dict[str, object]:
    conditions = " AND ".join(f"{name} = '{value}'" for name, value in where.items()) or "true"
    found = bench.frame(f"FROM analytics.{table} WHERE {conditions}")
    assert found.height == 1, found
    return found.row(0, named=True)


# --- breadth --------------------------------------------------------------------------------------------------------


def test_breadth_counts_every_stock_that_traded_against_its_reference_price(bench: Bench) -> None:
    figures = [
        {"change": 0.01, "above_sma_50": 0.2, "above_sma_200": -0.1, "since_high_52w": 0.0, "since_low_52w": 9.0},
        {"change": -0.02, "above_sma_50": -0.2, "since_high_52w": 5.0, "since_low_52w": 0.0, "limit_hit": -1},
        {"change": 1e-15, "above_sma_50": 1e-15, "limit_hit": 1},  # float noise is no advance
        {"value": None},  # its first session: nothing to measure against
    ]
    tell(bench, [row(code, 0, **told) for code, told in zip(CODES, figures, strict=True)])
    tell(bench, [row("US:ETF:SPY", 0, change=0.5)])
    assert one(bench, "breadth", exchange="*") == {
        "market": "us",
        "exchange": "*",
        "session": DAYS[0],
        "traded": 4,
        "advancers": 1,
        "decliners": 1,
        "unchanged": 1,
        "ad_line": 0,
        "above_sma_50": 1 / 3,
        "above_sma_200": 0.0,
        "new_highs": 1,
        "new_lows": 1,
        "ceilings": 1,
        "floors": 1,
        "value": 3000.0,
    }


def test_the_advance_decline_line_goes_on_from_where_it_stood_on_each_exchange(bench: Bench) -> None:
    for n, (up, down) in enumerate([(3, 0), (1, 2), (0, 3)]):
        ways = [0.01] * up + [-0.01] * down
        venues = ["NYSE", "NYSE", None]
        tell(bench, [row(c, n, change=way, exchange=v) for c, way, v in zip("ABC", ways, venues, strict=True)])
    line = bench.frame("SELECT exchange, list(ad_line ORDER BY session) AS line FROM analytics.breadth GROUP BY 1")
    assert dict(line.iter_rows()) == {"*": [3, 2, -1], "NYSE": [2, 2, 0], "unknown": [1, 0, -1]}


# --- sectors --------------------------------------------------------------------------------------------------------


def test_a_sector_is_the_median_of_its_stocks_and_what_they_traded(bench: Bench) -> None:
    describe(bench, {"A": "Banks", "B": "Banks", "C": "Banks", "D": None})
    tell(bench, [row(c, 0, ret_1d=r, change=r) for c, r in zip("ABCD", (0.01, -0.2, 0.03, 9.0), strict=True)])
    banks = one(bench, "sectors")
    assert banks["sector"] == "Banks"
    assert (banks["traded"], banks["advancers"], banks["decliners"]) == (3, 2, 1)
    assert banks["median_return"] == 0.01
    assert banks["value"] == 3000.0
    assert banks["cap_return"] is None


def test_the_highest_ranked_provider_that_knows_the_sector_decides(bench: Bench) -> None:
    describe(bench, {"A": "Elsewhere"}, provider="unheard_of")
    describe(bench, {"A": "Banks"}, provider=US.providers[1])
    describe(bench, {"A": None}, provider=US.providers[0])
    tell(bench, [row("A", 0)])
    assert one(bench, "sectors")["sector"] == "Banks"


def test_a_stock_that_changes_its_sector_takes_its_whole_history_along(bench: Bench) -> None:
    describe(bench, {"A": "Banks", "B": "Banks"})
    for n in range(3):
        tell(bench, [row(code, n) for code in "AB"])
    bench.connection.execute("UPDATE clean.instruments_ledger SET known_to = known_from WHERE symbol LIKE '%:A'")
    describe(bench, {"A": "Oil"}, batch=2)
    done = across.build_market(bench.connection, US)
    assert {table for table, rows in done.detail.items() if rows} == {"sectors"}
    found = bench.frame("SELECT sector, count(*), sum(traded)::INT FROM analytics.sectors GROUP BY 1 ORDER BY 1")
    assert found.rows() == [("Banks", 3, 3), ("Oil", 3, 3)]


# --- ratings and quotes -----------------------------------------------------------------------------------------------


def test_the_rating_is_the_rank_among_the_stocks_of_the_session_ties_sharing_it(bench: Bench) -> None:
    tell(bench, [row(c, 0, ret_252d=r) for c, r in zip("ABCD", (0.5, 0.1, 0.1 + 1e-15, None), strict=True)])
    assert bench.frame("SELECT symbol, rs_rating, rated FROM analytics.ratings ORDER BY 1").rows() == [
        ("US:STOCK:A", 100.0, 3),
        ("US:STOCK:B", 0.0, 3),
        ("US:STOCK:C", 0.0, 3),
    ]


def test_latest_shows_each_symbol_once_on_its_last_traded_session(bench: Bench) -> None:
    tell(bench, [row(code, 0, change=0.1, ret_5d=0.2, ret_252d=0.3) for code in "AB"])
    tell(bench, [row("A", 1, close=11.0, reference=10.5, change=0.5 / 10.5, ret_252d=0.4, high_52w=12.0)])
    found = bench.frame("FROM analytics.latest ORDER BY symbol")
    assert found["session"].to_list() == [DAYS[1], DAYS[0]]
    assert found["close"].to_list() == [11.0, 10.0]
    assert found["reference"].to_list() == [10.5, None]
    assert found["ret_1w"].to_list() == [None, 0.2]
    assert found["rs_rating"].to_list() == [0.0, 0.0]
    assert found["market_cap"].null_count() == 2


def test_the_years_range_is_shown_in_shares_of_the_last_session(bench: Bench) -> None:
    insert(
        bench,
        "golden.factor_steps",
        pl.DataFrame(
            {"symbol": "US:STOCK:A", "ex_date": DAYS[1], "effective_session": DAYS[1], "shares": 4.0}
        ).with_columns(
            version=pl.lit("1"),
            status=pl.lit("applied"),
            inferred=pl.lit(value=False),
            gap=pl.lit(value=False),
            **{name: pl.lit(0.0) for name in ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_value")},
        ),
    )
    tell(bench, [row("A", 0, high_52w=48.0, low_52w=20.0)])
    assert (one(bench, "latest")["high_52w"], one(bench, "latest")["low_52w"]) == (48.0, 20.0)
    tell(bench, [row("A", 1, high_52w=48.0, low_52w=20.0)])
    assert (one(bench, "latest")["high_52w"], one(bench, "latest")["low_52w"]) == (12.0, 5.0)


# --- correlation ------------------------------------------------------------------------------------------------------


def returns(seed: int, symbols: int, sessions: int, missing: float) -> pl.DataFrame:
    rng = np.random.default_rng(seed)
    moves = rng.normal(0, 0.02, (sessions, symbols)) + rng.normal(0, 0.01, (sessions, 1))
    moves[rng.random(moves.shape) < missing] = np.nan
    return pl.DataFrame(
        {
            "symbol": [f"S{n:02}" for n in range(symbols)] * sessions,
            "session": [date(2024, 1, 1) + timedelta(days=n) for n in range(sessions) for _ in range(symbols)],
            "ret": pl.Series(moves.ravel(), nan_to_null=True),
        }
    )


def days(told: pl.DataFrame) -> pl.Series:
    return told["session"].unique().sort()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32), st.integers(2, 6), st.sampled_from([0.0, 0.2]))
def test_correlation_is_numpys_on_the_sessions_both_traded(seed: int, symbols: int, missing: float) -> None:
    told = returns(seed, symbols, 80, missing)
    wide = told.pivot(on="symbol", index="session", values="ret").tail(60)
    for n, a, b, observations, value in correlations(told, days(told), 60).iter_rows():
        both = wide.select(a, b).drop_nulls()
        assert (n, observations) == (60, both.height)
        expected = np.corrcoef(both[a], both[b])[0, 1] if both.height >= 30 else None
        assert value == (expected and pytest.approx(expected, rel=1e-9, abs=1e-12))


def test_correlation_needs_half_of_the_sessions_and_movement() -> None:
    told = returns(1, 3, 60, 0.0).with_columns(
        ret=pl.when((pl.col("symbol") == "S00") & (pl.col("session") > date(2024, 1, 29)))
        .then(None)
        .when(pl.col("symbol") == "S01")
        .then(0.25)
        .otherwise("ret")
    )
    found = {(a, b): (seen, value) for _, a, b, seen, value in correlations(told, days(told), 60).iter_rows()}
    assert found["S00", "S01"] == (29, None)
    assert found["S00", "S02"] == (29, None)
    assert found["S01", "S02"] == (60, None)
    assert correlations(told.filter(symbol="S00"), days(told), 60).is_empty()


def test_the_most_traded_stocks_are_correlated(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(across, "CORRELATED", 2)
    value = {"A": 1.0, "B": 3.0, "C": 2.0}
    for n in range(4):
        tell(bench, [row(c, n, adv_20=v, ret_1d=0.01 * (n + 1) ** (1 + k)) for k, (c, v) in enumerate(value.items())])
    found = bench.frame("FROM analytics.correlation ORDER BY sessions")
    assert found.select("symbol_a", "symbol_b", "sessions", "session", "observations").rows() == [
        ("US:STOCK:B", "US:STOCK:C", sessions, DAYS[3], 4) for sessions in across.LOOK_BACKS
    ]


# --- incremental ------------------------------------------------------------------------------------------------------

FIGURES = st.fixed_dictionaries(
    {
        "change": st.sampled_from([None, 0.0, 0.01, -0.02]),
        "ret_1d": st.sampled_from([None, 0.0, 0.013, -0.021]),
        "ret_252d": st.sampled_from([None, 0.1, 0.2, -0.3]),
        "adv_20": st.sampled_from([None, 5.0, 7.0]),
        "value": st.sampled_from([None, 0.1, 0.2, 1e9 + 0.3]),
        "exchange": st.sampled_from([None, "NYSE", "NASDAQ"]),
        "limit_hit": st.sampled_from([None, 0, 1, -1]),
        "above_sma_50": st.sampled_from([None, 0.1, -0.1]),
        "since_high_52w": st.sampled_from([None, 0.0, 3.0]),
    }
)
TOLD = st.dictionaries(
    st.tuples(st.sampled_from(CODES), st.integers(0, len(SESSIONS) - 1)), FIGURES, min_size=1, max_size=12
)


@settings(max_examples=6, deadline=None)
@given(pieces=st.lists(TOLD, min_size=1, max_size=4), described=st.lists(st.sampled_from([None, "X", "Y"]), min_size=4))
def test_in_whatever_pieces_and_corrections_a_market_comes_the_tables_are_those_of_the_whole(
    tmp_path_factory: pytest.TempPathFactory,
    pieces: list[dict[tuple[str, int], dict[str, object]]],
    described: list[str | None],
) -> None:
    whole: dict[tuple[str, int], dict[str, object]] = {}
    lake = Lake(tmp_path_factory.mktemp("lake"))
    with Bench(lake) as lived, Bench(lake) as made:
        for number, piece in enumerate(pieces, start=1):
            code = CODES[number - 1]
            describe(lived, {code: described[number - 1]}, batch=number)
            describe(made, {code: described[number - 1]}, batch=number)
            tell(lived, [row(c, n, **figures) for (c, n), figures in piece.items()])
            whole |= piece
        tell(made, [row(c, n, **figures) for (c, n), figures in whole.items()])
        before, after = content(lived), content(made)
        for table in TABLES:
            assert before[table.full_name].equals(after[table.full_name]), table.full_name
    assert not after["analytics.breadth"].is_empty()


def test_nothing_new_costs_nothing_and_one_session_costs_one(bench: Bench) -> None:
    for n in range(5):
        tell(bench, [row(code, n, ret_252d=0.1) for code in "AB"])
    assert across.build_market(bench.connection, US).written == 0
    insert(
        bench,
        "ops.dirty",
        pl.DataFrame({"stage": "market", "symbol": "US:STOCK:A", "from_session": DAYS[4], "batch": 9}),
    )
    done = across.build_market(bench.connection, US)
    assert done.detail == {"figures": 0, "breadth": 2, "sectors": 0, "ratings": 2, "latest": 2, "correlation": 0}
