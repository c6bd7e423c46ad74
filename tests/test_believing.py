"""What golden is for: with an honest provider beside it, what a faulty one gets wrong does not reach anybody."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import polars as pl
import pytest

from vprism_pipelines.market.spec import market
from vprism_pipelines.providers.faults import FAULTS, Faults
from vprism_pipelines.providers.files import FilesProvider, read
from vprism_pipelines.providers.files import Mapping as Columns
from vprism_pipelines.providers.simulated import Exchange
from vprism_pipelines.tables import RAW_BARS
from vprism_pipelines.warehouse import findings, golden, schema
from vprism_pipelines.warehouse.ingest import clean_raw, ingest

VN = market("vn")
NOW = datetime(2026, 6, 1, tzinfo=UTC)
KEY = ["symbol", "session"]
VALUES = ("open", "high", "low", "close", "volume")


def believe(told: Mapping[str, pl.DataFrame], rank: Sequence[str], tmp_path: Path) -> pl.DataFrame:
    """Golden bars made of what some providers told, ranked in this order of trust."""
    spec = replace(VN, providers=tuple(rank))
    with duckdb.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.ensure(connection)
        golden.build_sessions(connection, spec, date(2026, 6, 1))
        for provider, bars in told.items():
            pulls = pl.DataFrame({"fetch_id": [provider], "provider": [provider], "parser_version": ["1"]})
            pulls = pulls.with_columns(fetched_at=pl.lit(NOW, dtype=pl.Datetime("us", "UTC")))
            ingest(connection, spec, "bars", pulls, clean_raw(raw(bars, provider), pulls, spec, "bars"))
        for stage in (golden.build_events, findings.build_findings, golden.build_bars):
            connection.begin()
            stage(connection, spec)
            connection.commit()
        return pl.DataFrame(connection.execute("FROM golden.bars").to_arrow_table())


def raw(bars: pl.DataFrame, provider: str) -> pl.DataFrame:
    """Canonical bars as the rows of a payload."""
    return RAW_BARS.conform(
        bars.with_row_index("row").with_columns(
            pl.col("symbol").str.split(":").list.last().alias("raw_symbol"),
            fetch_id=pl.lit(provider),
            adj_close=None,
            price_basis=pl.lit("raw"),
            price_unit=1.0,
            volume_unit=1.0,
            value_unit=1.0,
            basis_factor=None,
            live=False,
        )
    )


def errors(truth: pl.DataFrame, seen: pl.DataFrame) -> set[tuple[str, date]]:
    """Keys that are wrong, missing or too much."""
    cells = [pl.col(name).cast(pl.Float64) for name in VALUES]
    beside = truth.select(*KEY, *cells, true=True).join(
        seen.select(*KEY, *cells, seen=True), on=KEY, how="full", coalesce=True
    )
    wrong = [(pl.col(name) - pl.col(f"{name}_right")).abs() > 1e-9 * pl.col(name).abs() for name in VALUES]
    amiss = pl.col("true").is_null() | pl.col("seen").is_null() | pl.any_horizontal(wrong)
    return set(beside.filter(amiss).select(KEY).iter_rows())


@pytest.fixture(scope="module", params=["simulated", pytest.param("real", marks=pytest.mark.shared)])
def truth(request: pytest.FixtureRequest) -> pl.DataFrame:
    """Bars of a made-up exchange, and real ones of 15 companies."""
    if request.param == "simulated":
        bars = Exchange(7, 15, date(2022, 1, 4), date(2025, 6, 30)).bars()
        return bars.select(*KEY, *VALUES, "value", "currency", "exchange").filter(
            pl.col("symbol").str.contains("STOCK")
        )
    shared: Path = request.getfixturevalue("shared_data")
    how = Columns.load("cafef_daily")
    rows = FilesProvider().parse(read(shared / "vn_cafef_daily.parquet", how, NOW)).frames["bars"]
    chosen = rows["raw_symbol"].unique().sort().gather_every(90).head(15)
    rows = rows.filter(pl.col("raw_symbol").is_in(chosen.implode()))
    pulls = pl.DataFrame({"fetch_id": rows["fetch_id"][:1], "provider": ["cafef"], "fetched_at": [NOW]})
    accepted = clean_raw(rows, pulls, VN, "bars").accepted
    return accepted.select(*KEY, *VALUES, "value", "currency", "exchange").sort(KEY)


@pytest.fixture(scope="module")
def undisturbed(truth: pl.DataFrame, tmp_path_factory: pytest.TempPathFactory) -> set[tuple[str, date]]:
    """What golden gets wrong with the honest provider alone: bars that a check suspects without cause."""
    alone = errors(truth, believe({"honest": truth}, ["honest"], tmp_path_factory.mktemp("alone")))
    assert len(alone) < 1e-3 * truth.height
    return alone


@pytest.mark.parametrize("rank", [("faulty", "honest"), ("honest", "faulty")])
def test_of_two_the_honest_one_is_believed_whichever_is_ranked_first(
    truth: pl.DataFrame, undisturbed: set[tuple[str, date]], rank: tuple[str, ...], tmp_path: Path
) -> None:
    damaged, labels = Faults(seed=1, rate=0.01).inject(truth)
    assert set(labels["fault"]) >= set(FAULTS) - {"currency_switch"}
    amiss = errors(truth, believe({"honest": truth, "faulty": damaged}, rank, tmp_path))
    assert amiss <= undisturbed
    assert 10 * len(amiss) <= len(errors(truth, damaged.unique(KEY)))


def test_of_three_a_faulty_one_is_outvoted(
    truth: pl.DataFrame, undisturbed: set[tuple[str, date]], tmp_path: Path
) -> None:
    damaged, _ = Faults(seed=2, rate=0.01).inject(truth)
    told = {"faulty": damaged, "one": truth, "two": truth}
    amiss = errors(truth, believe(told, ["faulty", "one", "two"], tmp_path))
    assert amiss <= undisturbed
    assert 10 * len(amiss) <= len(errors(truth, damaged.unique(KEY)))
