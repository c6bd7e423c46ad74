"""The second job of a market: what stands beside the bars is pulled, cleaned and published, and never in their way."""

from __future__ import annotations

import json
from pathlib import Path

import dagster as dg
import duckdb
import pytest

from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.house import Clock, house
from tests.provider_kit import NOW
from tests.test_yahoo_companies import PRICE, STATISTICS, crumbs, quotes, reported, summary
from vprism_pipelines.assets.catalog import market_nodes
from vprism_pipelines.assets.jobs import beside_keys, beside_name, refresh_keys
from vprism_pipelines.definitions import build_defs
from vprism_pipelines.errors import InvalidInput
from vprism_pipelines.market.spec import MARKETS, US
from vprism_pipelines.providers import registry
from vprism_pipelines.serving.launch import run_market
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.rebuild import rebuild


@pytest.fixture
def place(tmp_path: Path, fault_server: FaultServer) -> House:
    return house(
        tmp_path,
        clock=Clock(NOW),
        universe={"us": ["AAPL"]},
        offline=False,
        provider_retry_attempts=0,
        provider_base_urls={"yahoo": fault_server.url_for("yahoo")},
    )


def run(place: House) -> dg.ExecuteInProcessResult:
    job = build_defs(place).resolve_job_def(beside_name(US))
    return job.execute_in_process(asset_selection=beside_keys(US, ["yahoo"]), raise_on_error=False)


def test_quotes_figures_and_descriptions_come_from_the_answers_to_the_published_snapshot(
    place: House, fault_server: FaultServer
) -> None:
    crumbs(fault_server, b"Ab1.c.DeF2g")
    fault_server.serve("/v7/finance/quote", json.dumps(quotes(PRICE)).encode())
    modules = summary(price=PRICE, assetProfile={"sector": "Technology"}, defaultKeyStatistics=STATISTICS)
    fault_server.serve("/v10/finance/quoteSummary/AAPL", json.dumps(modules).encode())
    accounts = {"timeseries": {"result": [reported("annualTotalRevenue", ("2025-09-30", 4e11))], "error": None}}
    timeseries = "/ws/fundamentals-timeseries/v1/finance/timeseries/AAPL"
    fault_server.serve(timeseries, json.dumps(accounts).encode())
    assert run(place).success
    with duckdb.connect(str(place.settings.database), read_only=True) as published:
        assert published.execute("SELECT symbol, last, delayed FROM clean.quotes").fetchall() == [
            ("US:STOCK:AAPL", 244.6, False)
        ]
        assert published.execute("SELECT name, exchange, sector FROM clean.instruments").fetchall() == [
            ("Apple Inc.", "NASDAQ", "Technology")
        ]
        items = published.execute("SELECT item, estimated FROM clean.fundamentals ORDER BY item").fetchall()
        known = published.execute(
            "SELECT max(revenue), max(shares_outstanding) > 1e10 FROM analytics.figures"
        ).fetchall()
    assert items == [("TotalRevenue", True), ("marketCap", False), ("sharesOutstanding", False), ("trailingEps", True)]
    assert known == [(4e11, True)]
    assert rebuild(place).identical


def test_the_command_runs_the_second_job_and_says_who_has_nothing_for_it(
    place: House, fault_server: FaultServer
) -> None:
    crumbs(fault_server, b"Ab1.c.DeF2g")
    fault_server.serve("/v7/finance/quote", json.dumps(quotes(PRICE)).encode())
    fault_server.serve("/v10/finance/quoteSummary/AAPL", json.dumps(summary(price=PRICE)).encode())
    nothing = json.dumps({"timeseries": {"result": [], "error": None}}).encode()
    fault_server.serve("/ws/fundamentals-timeseries/v1/finance/timeseries/AAPL", nothing)
    report = run_market(place, "us", providers=["yahoo"], beside=True)
    assert {step.asset for step in report.steps} >= {"raw/us/yahoo_quotes", "clean/us/quotes", "published"}
    assert not any(step.asset.startswith("golden/") for step in report.steps)
    with pytest.raises(InvalidInput, match="nothing besides bars"):
        run_market(place, "us", providers=["sample"], beside=True)


def test_a_provider_that_refuses_quotes_fails_its_own_job_and_stands_in_the_way_of_no_bar(
    place: House, fault_server: FaultServer
) -> None:
    crumbs(fault_server, b"Too Many Requests", status=429)
    assert not run(place).success
    for spec in MARKETS.values():
        providers = registry.for_market(spec.code)
        beside = {node.asset_key for node in market_nodes(spec) if node.beside}
        assert not beside & set(refresh_keys(spec, providers))
        assert beside <= set(beside_keys(spec, providers))
