"""What `vprism lineage` says is complete and true: change a column, and what is declared to rest on it changes."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta

import dagster as dg
import duckdb
import polars as pl
import pytest

from tests.cli_kit import Vprism, vprism_fixture  # noqa: F401
from tests.indicator_bars import history
from tests.warehouse_fixture import sample_house_fixture  # noqa: F401
from vprism_pipelines import tables
from vprism_pipelines.assets import catalog, factory
from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market import indicators
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.spec import VN
from vprism_pipelines.quality.consensus import vote
from vprism_pipelines.quality.rows import ANYWHERE, clean_bars
from vprism_pipelines.tables.sources import SOURCES
from vprism_pipelines.warehouse import column_lineage
from vprism_pipelines.warehouse.house import House

DICTIONARY = column_lineage.dictionary()
DERIVED = [table for table in DICTIONARY.values() if table.schema not in ("raw", "ops")]

Change = Callable[[pl.DataFrame], pl.DataFrame]


def made_of(table: tables.Table, source: str, columns: Collection[str]) -> set[str]:
    """Those of a table's columns that are declared to be made of a source."""
    return {name for name, sources in column_lineage.sources(table).items() if source in sources} & set(columns)


def differing(before: pl.DataFrame, after: pl.DataFrame, key: Sequence[str]) -> set[str]:
    """Columns that differ on rows that are in both."""
    both = before.join(after, on=key, how="inner", suffix=":new")
    others = [name for name in before.columns if name not in key]
    return {name for name in others if both.filter(pl.col(name).ne_missing(pl.col(f"{name}:new"))).height}


# --- complete -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("table", DERIVED, ids=lambda table: table.full_name)
def test_every_column_says_what_it_is_made_of_and_every_source_exists(table: tables.Table) -> None:
    if table.schema != "analytics":
        said = SOURCES.get(table.full_name, {})
        assert set(table.names) - set(said) == set(), f"declare their sources in {tables.__name__}.sources"
        assert set(said) - set(table.names) <= {"*"}, "sources of columns that are not there"
    found = column_lineage.sources(table)
    assert set(found) == set(table.names)
    for source in [source for sources in found.values() for source in sources] + list(table.decided_by):
        where, _, name = source.rpartition(".")
        assert name in DICTIONARY[where].names, source


def test_only_names_rules_clocks_and_people_are_made_of_nothing() -> None:
    # A number, a price or a ratio that no source explains would be a gap in the lineage.
    measured = [
        f"{table.full_name}.{column.name}"
        for table in DERIVED
        for column in table.columns
        if column.type == "DOUBLE" and not column_lineage.sources(table)[column.name]
    ]
    assert set(measured) <= {"quality.metrics.warn", "quality.metrics.fail"}


def test_no_column_is_made_of_itself_however_long_the_way() -> None:
    ways: dict[str, set[str]] = {}
    for edge in column_lineage.edges():
        if edge.kind == "value":
            ways.setdefault(edge.target, set()).add(edge.source)
    done: set[str] = set()

    def climb(column: str, path: tuple[str, ...]) -> None:
        assert column not in path, " <- ".join((*path, column))
        if column not in done:
            for source in ways.get(column, ()):
                climb(source, (*path, column))
            done.add(column)

    for column in ways:
        climb(column, ())


def test_every_golden_and_analytics_value_leads_up_to_a_raw_column() -> None:
    for table in (tables.GOLDEN_BARS, tables.FACTOR_STEPS, DICTIONARY["analytics.daily"]):
        for column, sources in column_lineage.sources(table).items():
            walked = [node.column for node in column_lineage.walk(f"{table.full_name}.{column}")]
            assert not sources or any(name.startswith("raw.") for name in walked), column


# --- true: rows -----------------------------------------------------------------------------------------------------

DAY, NEXT = date(2024, 3, 4), date(2024, 3, 5)
PULLED = datetime(2024, 3, 5, 12, tzinfo=UTC)
PULLS = pl.DataFrame(
    {"fetch_id": ["a", "b"], "provider": ["one", "two"], "fetched_at": [PULLED, PULLED + timedelta(days=1)]}
).with_columns(pl.col("fetched_at").cast(pl.Datetime("us", "UTC")))
CALENDARS = sorted({VN.calendar, ANYWHERE, *(exchange.calendar for exchange in VN.exchanges.values())})
# Exchanges that close at different hours, some days projected: what the real ones rarely do shows what depends on it.
SESSIONS = pl.DataFrame(
    [
        {
            "calendar": name,
            "session": day,
            "close": datetime(2024, 3, day.day, 5 if place % 2 or name == ANYWHERE else 20, place, tzinfo=UTC),
            "projected": (place + day.day) % 2 == 0,
        }
        for place, name in enumerate(CALENDARS)
        for day in (DAY, NEXT)
    ]
).with_columns(pl.col("close").cast(pl.Datetime("us", "UTC")))


def raw(**values: object) -> dict[str, object]:
    plain = {
        "fetch_id": "a",
        "raw_symbol": "FPT",
        "session": DAY,
        "open": 20.0,
        "high": 20.5,
        "low": 19.5,
        "close": 20.25,
        "volume": 1000.0,
        "value": 20.1,
        "adj_close": 18.0,
        "currency": None,
        "exchange": "HOSE",
        "price_basis": "split_adjusted",
        "price_unit": 1.0,
        "volume_unit": 1.0,
        "value_unit": 1.0,
        "basis_factor": 1.0,
        "live": False,
    }
    return plain | values


RAW = pl.DataFrame(
    [
        raw(),
        raw(raw_symbol="VNM", price_unit=1000.0, basis_factor=2.0, session=NEXT, volume=0.4),
        raw(raw_symbol="HPG", open=20.25, high=20.25, low=20.25, volume=0.0),
        raw(raw_symbol="SSI", open=20.0, close=20.3, low=20.0 * (1 + 4e-13), high=20.3 * (1 - 4e-13)),
        raw(raw_symbol="MWG", open=20.3, close=20.0, low=20.0 * (1 + 4e-13), high=20.3 * (1 - 4e-13)),
        raw(raw_symbol="VCB", session=NEXT, exchange=None, basis_factor=None),
    ],
    schema_overrides={"currency": pl.String},
).with_row_index("row").select(pl.col(n).cast(t) for n, t in tables.RAW_BARS.polars_schema.items())  # fmt: skip


def times(column: str, *factors: float) -> list[Change]:
    return [lambda rows, f=factor: rows.with_columns(pl.col(column) * f) for factor in factors]  # type: ignore[misc]


def put(column: str, *values: object) -> list[Change]:
    kind = tables.RAW_BARS.polars_schema[column]
    return [lambda rows, v=value: rows.with_columns(pl.lit(v, dtype=kind).alias(column)) for value in values]  # type: ignore[misc]


ROW_CHANGES: Mapping[str, list[Change]] = {
    "raw_symbol": [
        *(
            lambda rows, n=name: rows.with_columns(pl.col("raw_symbol").replace(n, "VNINDEX"))
            for name in ("HPG", "VCB")
        ),
        lambda rows: rows.with_columns(raw_symbol=pl.col("raw_symbol").reverse()),
    ],
    "session": put("session", DAY, NEXT),
    **{name: [*times(name, 1 + 1e-13, 1.001, 0.999), *put(name, 20.25)] for name in ("open", "high", "low", "close")},
    "volume": [*times("volume", 2), *put("volume", 0.0, 5.0)],
    "value": times("value", 2),
    "adj_close": times("adj_close", 2),
    "exchange": put("exchange", "HNX", "UPCOM", "HOSE", None),
    "price_basis": put("price_basis", "raw", "adjusted_by_source", "split_adjusted"),
    "price_unit": times("price_unit", 10, 1e-9),
    "volume_unit": times("volume_unit", 10),
    "value_unit": times("value_unit", 10),
    "basis_factor": [*put("basis_factor", None, 1.0), *times("basis_factor", 3)],
    "live": put("live", True),
    "row": [lambda rows: rows.with_columns(pl.col("row") + 100)],
}
# Made when the row is threaded into the ledger, not when it is cleaned.
LEDGERS = {"known_to", "change_class", "batch"}
CLEANED = set(tables.CLEAN_BARS.names) - LEDGERS


def cleaned(rows: pl.DataFrame, pulls: pl.DataFrame = PULLS) -> pl.DataFrame:
    accepted = clean_bars(rows, pulls, VN, SESSIONS).accepted
    # Rows keep their order, and those of this frame are all accepted or all of one place.
    return accepted.join(rows.select("row").with_row_index("place"), left_on="payload_row", right_on="row")


@pytest.mark.parametrize("column", sorted(ROW_CHANGES))
def test_a_raw_column_changes_the_clean_columns_declared_and_no_other(column: str) -> None:
    before = cleaned(RAW)
    changed: set[str] = set()
    for change in ROW_CHANGES[column]:
        changed |= differing(before, cleaned(change(RAW)), ["place"])
    assert changed & CLEANED == made_of(tables.CLEAN_BARS, f"raw.bars.{column}", CLEANED)


def test_a_currency_stands_as_it_is_stated_and_another_than_the_markets_is_no_row() -> None:
    assert cleaned(put("currency", "VND")[0](RAW)).equals(cleaned(RAW))
    assert cleaned(put("currency", "USD")[0](RAW)).is_empty()
    assert column_lineage.sources(tables.CLEAN_BARS)["currency"] == ("raw.bars.currency",)
    assert "raw.bars.currency" in tables.CLEAN_BARS.decided_by


def test_the_pull_gives_its_instant_its_name_and_whether_the_session_was_over() -> None:
    before = cleaned(RAW)
    later = PULLS.with_columns(pl.col("fetched_at") - timedelta(hours=20))
    assert differing(before, cleaned(RAW, later), ["place"]) == made_of(
        tables.CLEAN_BARS, "raw.fetches.fetched_at", CLEANED
    )
    named = PULLS.with_columns(provider=pl.lit("three"))
    assert differing(before, cleaned(RAW, named), ["place"]) == {"provider"}


# --- true: votes ------------------------------------------------------------------------------------------------------


def candidates() -> pl.DataFrame:
    rows = [
        {"provider": provider, "open": 20.0, "high": 20.5, "low": 19.5, "close": 20.25 + shift, "volume": 1000}
        for provider, shift in (("one", 0.0), ("two", 0.001), ("three", 3.0))
    ]
    instant = pl.lit(PULLED).cast(pl.Datetime("us", "UTC"))
    return pl.DataFrame(rows).with_columns(
        symbol=pl.lit("VN:STOCK:FPT"),
        session=pl.lit(DAY),
        value=pl.lit(20_000.0),
        currency=pl.lit("VND"),
        exchange=pl.lit("HOSE"),
        price_basis=pl.lit("raw"),
        flags=pl.lit(0, dtype=pl.Int32),
        known_from=instant,
        weight=pl.lit(0.9),
        doubt=pl.lit(0, dtype=pl.Int32),
    )


def elected(rows: pl.DataFrame) -> pl.DataFrame:
    winners = vote(rows, {"one": 0, "two": 1, "three": 2}).rename({"provider": "chosen_provider"})
    return tables.GOLDEN_BARS.conform(winners)


@pytest.mark.parametrize("column", ["open", "high", "low", "volume", "value", "currency", "exchange", "known_from"])
def test_what_no_vote_hangs_on_changes_its_own_golden_column_and_no_other(column: str) -> None:
    rows = candidates()
    other: dict[str, pl.Expr] = {
        "currency": pl.lit("USD"),
        "exchange": pl.lit("HNX"),
        "known_from": pl.col("known_from") + timedelta(hours=1),
        "volume": pl.col("volume") + 1,
    }
    changed = rows.with_columns(other.get(column, pl.col(column) * 1.0001).alias(column))
    found = differing(elected(rows), elected(changed), ["symbol", "session"])
    assert found == made_of(tables.GOLDEN_BARS, f"clean.bars_ledger.{column}", tables.GOLDEN_BARS.names)


def test_a_close_changes_its_own_column_and_who_agrees_and_a_bit_the_flags_alone() -> None:
    rows = candidates()
    two = pl.col("provider") != "three"
    near, far = (
        rows.with_columns(close=pl.col("close") * pl.when(two).then(by).otherwise(1.0)) for by in (1.00001, 1.15)
    )
    found = differing(elected(rows), elected(near), ["symbol", "session"])
    assert found == {"close"}
    found |= differing(elected(rows), elected(far), ["symbol", "session"])
    joined = rows.with_columns(close=pl.lit(20.25))
    found |= differing(elected(rows), elected(joined), ["symbol", "session"])
    assert found == made_of(tables.GOLDEN_BARS, "clean.bars_ledger.close", tables.GOLDEN_BARS.names)
    flagged = rows.with_columns(flags=pl.lit(128, dtype=pl.Int32))
    assert differing(elected(rows), elected(flagged), ["symbol", "session"]) == {"flags"}


def test_weights_decide_who_wins_and_how_sure_that_is() -> None:
    rows = candidates()
    trusted = rows.with_columns(weight=pl.when(pl.col("provider") == "three").then(5.0).otherwise("weight"))
    changed = differing(elected(rows), elected(trusted), ["symbol", "session"])
    assert changed == {"chosen_provider", "close", "confidence"}  # all else is the same with all three
    assert "quality.reliability.value" in tables.GOLDEN_BARS.decided_by
    assert "quality.reliability.value" in column_lineage.sources(tables.GOLDEN_BARS)["confidence"]


# --- true: factors ----------------------------------------------------------------------------------------------------

TERMS = ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price")
STEP_COLUMNS = {"version", "prev_close", "ref_price", "m", "m_ex_close", "v", "cash", "split_ratio", "bonus_ratio",
                "rights_ratio", "rights_value", "inferred", "effective_session"}  # fmt: skip
EVENTS = pl.DataFrame(
    {
        "symbol": ["VN:STOCK:FPT"] * 2,
        "ex_date": [date(2024, 3, 6), date(2024, 3, 8)],
        "event_type": ["rights", "bonus"],
        "cash": [1.0, 0.5],
        "split_ratio": [2.0, 1.0],
        "bonus_ratio": [0.1, 0.2],
        "rights_ratio": [0.3, 0.2],
        "rights_price": [4.0, 5.0],
        "currency": ["VND", "VND"],
        "provider": ["one", "one"],
        "inferred": [False, False],
    }
)
CLOSES = pl.DataFrame(
    {
        "symbol": ["VN:STOCK:FPT"] * 5,
        "session": [date(2024, 3, day) for day in (4, 5, 6, 7, 8)],
        "close": [20.0, 21.0, 10.0, 11.0, 9.0],
        "traded": [True] * 5,
    }
)


def steps(events: pl.DataFrame, bars: pl.DataFrame = CLOSES) -> pl.DataFrame:
    return factor_sets(events, bars, "VND").steps.with_row_index("place").drop("symbol", "ex_date", "status", "gap")


@pytest.mark.parametrize("term", TERMS)
def test_a_term_of_an_event_changes_the_factor_columns_declared_and_no_other(term: str) -> None:
    found: set[str] = set()
    for factor in (1.01, 6.0):  # a subscription price above the market's is worth nothing
        found |= differing(steps(EVENTS), steps(EVENTS.with_columns(pl.col(term) * factor)), ["place"])
    assert found & STEP_COLUMNS == made_of(tables.FACTOR_STEPS, f"golden.adjustment_events.{term}", STEP_COLUMNS)


def test_a_close_changes_the_multipliers_and_an_untraded_bar_moves_them() -> None:
    found: set[str] = set()
    for factor in (1.01, 0.2):
        found |= differing(steps(EVENTS), steps(EVENTS, CLOSES.with_columns(pl.col("close") * factor)), ["place"])
    declared = made_of(tables.FACTOR_STEPS, "golden.bars.close", STEP_COLUMNS)
    assert found & STEP_COLUMNS == declared
    still = CLOSES.with_columns(traded=pl.col("session") != date(2024, 3, 5))
    moved = differing(steps(EVENTS), steps(EVENTS, still), ["place"]) & STEP_COLUMNS
    assert moved <= made_of(tables.FACTOR_STEPS, "golden.bars.volume", STEP_COLUMNS)
    assert {"prev_close", "ref_price", "m"} <= moved


# --- true: indicators -------------------------------------------------------------------------------------------------

BARS = history(3, 600)
INDEX = (
    BARS.filter(pl.col("symbol") == BARS["symbol"][0])
    .select("session", close=pl.col("close") * (1 + 0.01 * (pl.int_range(pl.len()) % 7)))
)  # fmt: skip
INPUTS = ("open", "high", "low", "close", "volume", "value", "raw_close", "raw_high", "raw_low", "split_high",
          "split_low", "split_close")  # fmt: skip


def jolted(frame: pl.DataFrame, column: str) -> pl.DataFrame:
    """A column made uneven: every value another one, no two ratios alike."""
    uneven = 1 + 0.003 * ((pl.int_range(pl.len()) * 7919) % 11 + 1)
    return frame.with_columns((pl.col(column) * uneven).alias(column))


@pytest.mark.parametrize("column", [*INPUTS, "benchmark"])
def test_an_input_changes_the_indicators_that_declare_it_and_no_other(column: str) -> None:
    before, _ = indicators.compute(BARS, benchmark=INDEX)
    bars, index = (BARS, jolted(INDEX, "close")) if column == "benchmark" else (jolted(BARS, column), INDEX)
    after, _ = indicators.compute(bars, benchmark=index)
    declared = {indicator.name for indicator in indicators.catalogue() if column in indicator.inputs}
    assert differing(before, after, ["symbol", "session"]) == declared


# --- shown ------------------------------------------------------------------------------------------------------------


def test_the_lineage_is_published_with_the_data(sample_house: House) -> None:
    with duckdb.connect(str(sample_house.settings.database), read_only=True) as connection:
        stored = connection.execute("SELECT count(*), count(DISTINCT table_name) FROM ops.column_lineage").fetchone()
        closes = connection.execute(
            """SELECT source_table || '.' || source_column FROM ops.column_lineage
               WHERE table_name = 'golden.bars' AND column_name = 'close' AND kind = 'value'"""
        ).fetchall()
    assert stored == (len(set(column_lineage.edges())), len({edge.table for edge in column_lineage.edges()}))
    assert closes == [("clean.bars_ledger.close",)]


def test_the_command_draws_the_tree_up_to_the_raw_columns_and_down_to_the_analytics(vprism: Vprism) -> None:
    up = vprism("lineage", "golden.bars.close")
    assert up.status == 0
    assert "└─ clean.bars_ledger.close" in up.out
    assert "raw.bars.basis_factor" in up.out
    assert "quality.reliability.value" in up.out  # who is believed is decided by it
    down = vprism("lineage", "golden.bars.close", "--down", "--format", "jsonl")
    reached = {row["column"]: row for row in down.rows}
    assert reached["golden.bars.close"]["depth"] == 0
    assert {"analytics.daily.ret_1d", "golden.factor_steps.m"} <= set(reached)
    assert reached["golden.factor_steps.m"]["via"] == "golden.bars.close"


def test_a_column_that_is_not_there_is_refused_with_those_that_are(vprism: Vprism) -> None:
    wrong = vprism("lineage", "golden.bars.price", "--format", "jsonl")
    assert wrong.status == InvalidInput.exit_status
    assert "close" in json.loads(wrong.err.splitlines()[-1])["hint"]
    assert vprism("lineage", "close").status == InvalidInput.exit_status


def test_dagster_shows_the_same_columns_by_asset() -> None:
    (golden,) = (node for node in catalog.market_nodes(VN) if node.table is tables.GOLDEN_BARS)
    shown = factory.column_lineage(golden)["dagster/column_lineage"]
    assert shown.deps_by_column["close"] == [dg.TableColumnDep(dg.AssetKey(["clean", "vn", "bars"]), "close")]
    (cleaned_node,) = (node for node in catalog.market_nodes(VN) if node.table is tables.CLEAN_BARS)
    feeding = {dep.asset_key.path[-1] for dep in factory.column_lineage(cleaned_node)["dagster/column_lineage"]
               .deps_by_column["close"]}  # fmt: skip
    assert "simulated_bars" in feeding
