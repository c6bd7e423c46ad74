"""The real vnstock package in its process, talking to a local server: what callers may rely on."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl
import pytest

from tests.conftest import ROOT
from tests.vnstock_replay import INDICES, UNKNOWN, VALUE_SINCE, WEEK, Fault, ReplayServer, bars, fetch, request
from vprism_pipelines.errors import (
    Blocked,
    Malformed,
    NoData,
    NotFound,
    ProviderError,
    RateLimited,
    Unavailable,
)
from vprism_pipelines.providers.base import Dataset, Payload, Request
from vprism_pipelines.providers.vnstock import KbsProvider, VciProvider, VnstockChild

try:
    INSTALLED: str | None = version("vnstock")
except PackageNotFoundError:
    INSTALLED = None
real = pytest.mark.skipif(
    INSTALLED is None, reason="needs the package vnstock: pip install 'vprism-pipelines[vnstock]'"
)


# --- the real package ---------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server() -> Iterator[ReplayServer]:
    with ReplayServer() as running:
        yield running


def new_child(server: ReplayServer, **options: Any) -> VnstockChild:
    defaults = {"base_urls": {"kbs": server.url, "vci": server.url}, "calls_per_minute": 1e6, "request_timeout": 5.0}
    return VnstockChild(**{**defaults, **options})


@pytest.fixture(scope="module")
def child(server: ReplayServer) -> Iterator[VnstockChild]:
    running = new_child(server)
    yield running
    asyncio.run(running.aclose())


@real
@pytest.mark.processes
class TestRealPackage:
    """One process, well under its quota of 20 calls."""

    def test_kbs_bars_are_exact_vnd_with_the_traded_value(self, child: VnstockChild) -> None:
        provider = KbsProvider(child)
        window = date(2024, 1, 29), date(2024, 2, 6)
        frame = provider.parse(fetch(provider, request(provider, window=window))).frames["bars"]
        expected = bars("FPT", *window)
        assert frame["session"].to_list() == [bar.session for bar in expected]
        assert (frame["close"] * frame["price_unit"]).to_list() == [round(bar.close) for bar in expected]
        assert frame["volume"].to_list() == [bar.volume for bar in expected]
        assert frame.filter(pl.col("value").is_not_null())["session"].min() == VALUE_SINCE
        assert frame["price_basis"].unique().to_list() == ["adjusted_by_source"]
        assert frame["basis_factor"].null_count() == frame.height

    def test_vci_bars_are_thousand_vnd_to_10_vnd_and_trimmed_to_the_window(
        self, child: VnstockChild, server: ReplayServer
    ) -> None:
        provider = VciProvider(child)
        payload = fetch(provider, request(provider))
        frame = provider.parse(payload).frames["bars"]
        expected = bars("FPT", *WEEK)
        assert len(json.loads(payload.body)["rows"]) > len(
            expected
        )  # VCI counts back: it answers from before the start
        assert frame["session"].to_list() == [bar.session for bar in expected]
        assert frame["price_unit"].unique().to_list() == [1000.0]
        for got, bar in zip((frame["close"] * 1000).to_list(), expected, strict=True):
            assert got == pytest.approx(bar.close, abs=5.01)
        assert server.requests[-1] == "POST /api/chart/OHLCChart/gap-chart"

    @pytest.mark.parametrize(
        ("make", "symbol"),
        [(KbsProvider, "VN:INDEX:VNINDEX"), (VciProvider, "VN:INDEX:VNINDEX"), (VciProvider, "VN:INDEX:UPCOMINDEX")],
    )
    def test_indices_are_points_under_both(
        self, child: VnstockChild, make: type[KbsProvider | VciProvider], symbol: str
    ) -> None:
        provider = make(child)
        frame = provider.parse(fetch(provider, request(provider, symbol))).frames["bars"]
        (code,) = {"VNINDEX", "HNXUpcomIndex"} & {*frame["raw_symbol"]}
        assert code in INDICES
        assert frame["close"].to_list() == [bar.close for bar in bars("VNINDEX", *WEEK)]
        assert frame.select("price_unit", "price_basis", "basis_factor").unique().rows() == [(1.0, "raw", 1.0)]

    def test_listings_name_the_assets_they_can(self, child: VnstockChild) -> None:
        kbs, vci = KbsProvider(child), VciProvider(child)
        of_kbs = kbs.parse(fetch(kbs, request(kbs, None, "instruments"))).frames["instruments"]
        of_vci = vci.parse(fetch(vci, request(vci, None, "instruments"))).frames["instruments"]
        assert dict(of_kbs.select("raw_symbol", "asset").iter_rows()) == {
            "FPT": "STOCK",
            "SHS": "STOCK",
            "E1VFVN30": None,  # KBS calls ETFs and closed-end funds alike
            "CFPT2305": "WARRANT",
        }
        assert of_vci.select("raw_symbol", "asset", "exchange", "name").rows()[1:] == [
            ("E1VFVN30", "ETF", "HSX", "Công ty E1VFVN30"),
            ("BBT", "STOCK", "DELISTED", "Công ty BBT"),
            ("XYZ", None, "HNX", "Công ty XYZ"),
        ]

    def test_events_become_actions_where_they_are_certain(self, child: VnstockChild, server: ReplayServer) -> None:
        provider = VciProvider(child)
        window = date(2016, 1, 1), date(2024, 6, 28)
        parsed = provider.parse(fetch(provider, request(provider, dataset="actions", window=window)))
        assert parsed.frames["actions"].select("ex_date", "event_type", "cash", "bonus_ratio").rows() == [
            (date(2024, 6, 12), "cash", 1000.0, 0.0),
            (date(2024, 6, 12), "stock_dividend", 0.0, 0.15),
            (date(2023, 5, 10), "bonus", 0.0, 0.0715),
        ]
        assert sum("not emitted: 1" in note for note in parsed.notes) == 3
        assert "eventCode=DIV,ISS" in server.requests[-1]
        assert "fromDate=20160101&toDate=20240827" in server.requests[-1]

    def test_payloads_of_the_same_answer_are_the_same_bytes(self, child: VnstockChild) -> None:
        provider = VciProvider(child)
        once, again = (fetch(provider, request(provider)) for _ in range(2))
        assert once.sha256 == again.sha256
        assert (once.status, once.error) == (200, None)
        assert json.loads(once.body)["versions"]["vnstock"] == INSTALLED

    @pytest.mark.parametrize("make", [KbsProvider, VciProvider])
    def test_nothing_there_is_no_data(self, child: VnstockChild, make: type[KbsProvider | VciProvider]) -> None:
        provider = make(child)
        payload = fetch(provider, request(provider, f"VN:STOCK:{UNKNOWN}"))
        assert (payload.status, payload.error) == (200, None)  # an answer: it need not be asked for again
        with pytest.raises(NoData):
            provider.parse(payload)

    def test_an_index_kbs_does_not_have_is_not_found(self, child: VnstockChild) -> None:
        payload = asyncio.run(
            KbsProvider(child).fetch(Request("kbs", "bars", "vn", "VN:INDEX:VNMIDCAP", "VNMIDCAP", *WEEK))
        )
        with pytest.raises(NotFound):
            KbsProvider().parse(payload)

    def test_killed_from_outside_it_leaves_nothing_and_is_replaced(self, child: VnstockChild) -> None:
        provider = KbsProvider(child)
        fetch(provider, request(provider))
        home, pid = child.home, child.pid
        assert home is not None
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        payload = fetch(provider, request(provider))
        if payload.error:  # it was asked before its end was noticed
            payload = fetch(provider, request(provider))
        assert payload.status == 200
        assert child.pid not in (None, pid)
        assert not home.exists()


def faulty(code: str, status: int, body: bytes, **headers: str) -> tuple[str, Fault]:
    return code, Fault(status, body, {"Content-Type": "text/html", **headers})


@real
@pytest.mark.processes
class TestRealFaults:
    """Another process, because a block makes vnstock leave the host alone for minutes."""

    def test_each_failure_of_the_source_has_its_type(self, server: ReplayServer) -> None:
        server.faults |= dict(
            [
                faulty("AAA", 200, b'{"errorCode":"4000014","message":"invalid range"}'),
                faulty("AAB", 200, b"<html>maintenance</html>"),
                faulty("AAC", 200, b'{"symbol":"AAC","data_day":[{"t":"2024-06-03 07:00"'),
                faulty("AAD", 500, b"oops"),
                faulty("AAE", 400, b"Request Blocked"),
                faulty("AAF", 429, b"{}", **{"Retry-After": "1"}),
                faulty("AAG", 403, b"<html>Attention Required! | Cloudflare</html>", Server="cloudflare"),
            ]
        )
        server.listing_fault = Fault(503, b"down")
        child = new_child(server)
        kbs, vci = KbsProvider(child), VciProvider(child)

        async def ask(provider: KbsProvider | VciProvider, code: str | None) -> ProviderError:
            dataset: Dataset = "bars" if code else "instruments"
            payload = await provider.fetch(request(provider, f"VN:STOCK:{code}" if code else None, dataset))
            with pytest.raises(ProviderError) as caught:
                provider.parse(payload)
            return caught.value

        async def ask_all() -> list[ProviderError]:
            cases: list[tuple[KbsProvider | VciProvider, str | None]] = [
                (kbs, "AAA"),
                (kbs, "AAB"),
                (kbs, "AAC"),
                (kbs, None),
                (kbs, "AAD"),
                (vci, "AAE"),
            ]
            cases += [(vci, "AAF"), (kbs, "AAG"), (kbs, "FPT")]
            found = [await ask(provider, code) for provider, code in cases]
            await child.aclose()
            return found

        try:
            errors = asyncio.run(ask_all())
        finally:
            server.listing_fault = None
        kinds = [type(error) for error in errors]
        assert kinds == [
            Malformed,
            Blocked,
            Malformed,
            Unavailable,
            Unavailable,
            Blocked,
            RateLimited,
            Blocked,
            Blocked,
        ]
        assert "4000014" in str(errors[0])
        assert isinstance(errors[6], RateLimited)
        assert errors[6].retry_after == 1.0
        assert "leaves" in str(errors[8])  # the breaker of vnstock: nothing was sent
        assert not any("/stocks/FPT/" in line for line in server.requests[-3:])

    def test_a_used_up_quota_is_rate_limited_and_ends_nobody(self, server: ReplayServer) -> None:
        child = new_child(server)
        providers = [KbsProvider(child), VciProvider(child)]

        async def ask_all() -> tuple[list[str | None], Payload, int | None, int | None]:
            first = await providers[0].fetch(request(providers[0]))
            pid = child.pid
            errors = [(await providers[n % 2].fetch(request(providers[n % 2]))).error for n in range(19)]
            last = await providers[0].fetch(request(providers[0]))
            after = child.pid
            await child.aclose()
            return [first.error, *errors], last, pid, after

        errors, last, pid, after = asyncio.run(ask_all())
        assert errors == [None] * 20  # KBS and VCI together
        assert pid == after  # SystemExit stays inside: neither our process nor the child ended
        with pytest.raises(RateLimited) as caught:
            KbsProvider().parse(last)
        assert caught.value.retry_after == 60.0

    def test_a_black_hole_is_unavailable_in_bounded_time(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as hole:
            url = f"http://127.0.0.1:{hole.getsockname()[1]}"
            child = VnstockChild(base_urls={"kbs": url, "vci": url}, request_timeout=0.5, calls_per_minute=1e6)
            provider = VciProvider(child)
            payload = fetch(provider, request(provider))
            asyncio.run(child.aclose())
        assert payload.error == "UNAVAILABLE"
        assert payload.latency_ms < 20_000


@real
@pytest.mark.processes
class TestRealQuarantine:
    def test_it_writes_nowhere_else_reaches_nobody_else_and_is_gone_afterwards(
        self, server: ReplayServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        watched = {name: tmp_path / name for name in ("home", "cwd", "tmp")}
        for folder in watched.values():
            folder.mkdir()
        (watched["cwd"] / "AGENTS.md").write_text("ours")
        monkeypatch.setenv("HOME", str(watched["home"]))
        monkeypatch.chdir(watched["cwd"])
        monkeypatch.setattr("tempfile.tempdir", str(watched["tmp"]))
        repository = {path.name for path in ROOT.iterdir()}
        packages = Path(sys.prefix)
        installed = {path: path.stat().st_mtime_ns for path in packages.rglob("vn*/**/*")}
        before = len(server.requests)

        child = new_child(server)
        kbs, vci = KbsProvider(child), VciProvider(child)
        first = fetch(kbs, request(kbs))
        second = fetch(vci, request(vci))
        home = child.home
        assert home is not None
        assert home.is_relative_to(watched["tmp"])
        assert (home / ".vnstock").is_dir()  # where it would have littered
        assert not [path for path in home.rglob("*") if path.name in ("AGENTS.md", "CLAUDE.md", "GEMINI.md")]
        asyncio.run(child.aclose())

        assert not home.exists()
        assert list(watched["tmp"].iterdir()) == []
        assert list(watched["home"].iterdir()) == []
        assert [(p.name, p.read_text()) for p in watched["cwd"].iterdir()] == [("AGENTS.md", "ours")]
        assert {path.name for path in ROOT.iterdir()} - repository <= {".pytest_cache", ".hypothesis"}
        assert {path: path.stat().st_mtime_ns for path in packages.rglob("vn*/**/*")} == installed
        assert server.requests[before:] == [
            "GET /iis-server/investment/stocks/FPT/data_day?sdate=03-06-2024&edate=07-06-2024",
            "POST /api/chart/OHLCChart/gap-chart",
        ]
        notes = kbs.parse(first).notes + vci.parse(second).notes
        assert any("connect hq.vnstocks.com:443" in note for note in notes)
        assert not any("write" in note for note in notes)

    def test_it_ends_and_tidies_up_when_its_parent_is_killed(self, tmp_path: Path) -> None:
        script = f"""
            import asyncio, os, signal, sys
            sys.path.insert(0, {str(ROOT)!r})
            from vprism_pipelines.providers.vnstock_child import VnstockChild
            child = VnstockChild()
            asyncio.run(child.ask({{"source": "KBS", "op": "history", "symbol": "NOSUCHCODE", "index": False}}))
            print(child.pid, child.home, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)
        """
        done = subprocess.run(
            [sys.executable, "-c", textwrap.dedent(script)],
            capture_output=True,
            text=True,
            env={**os.environ, "TMPDIR": str(tmp_path)},
            check=False,
        )
        pid, home = done.stdout.split()
        assert done.returncode == -signal.SIGKILL
        assert Path(home).is_relative_to(tmp_path)
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline and (Path(home).exists() or Path(f"/proc/{pid}").exists()):
            time.sleep(0.05)
        assert not Path(home).exists()
        with pytest.raises(ProcessLookupError):
            os.kill(int(pid), 0)
