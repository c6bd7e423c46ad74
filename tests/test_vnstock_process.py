"""The vnstock process from the outside: protocol, pace, environment and walls, with stand-ins for the package."""

from __future__ import annotations

import asyncio
import json
import socket
import stat
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.vnstock_replay import ReplayServer, fetch, request
from vprism_pipelines.errors import (
    ProviderError,
    Unavailable,
)
from vprism_pipelines.providers import vnstock_worker
from vprism_pipelines.providers.vnstock import KbsProvider, VnstockChild
from vprism_pipelines.settings import Settings

# --- the process: protocol, with a stand-in for the interpreter -----------------------------------------------------


@pytest.fixture
def stand_in(tmp_path: Path) -> Callable[[str], str]:
    """Makes an "interpreter" that runs the given code instead of the worker; `say` and `lines` are at hand."""

    def make(code: str) -> str:
        path = tmp_path / "python"
        prelude = """
            import json, os, pathlib, sys, time
            def say(message): print(json.dumps(message), flush=True)
            lines = iter(sys.stdin.readline, "")
            setup = json.loads(next(lines))
        """
        path.write_text(f"#!{sys.executable}\n{textwrap.dedent(prelude)}\n{textwrap.dedent(code)}")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        return str(path)

    return make


ECHO = """
    say({"ready": {}})
    for line in lines:
        question = json.loads(line)
        say({"id": question["id"], "answer": {"setup": setup, "env": dict(os.environ), "cwd": os.getcwd()}})
"""


@pytest.mark.processes
class TestProcess:
    @pytest.mark.parametrize(
        ("code", "error", "said"),
        [
            (
                "say({'ready': {}}); next(lines); print('quảng cáo', flush=True); time.sleep(60)",
                "MALFORMED",
                "something else",
            ),
            (
                "say({'ready': {}}); next(lines); print('[1, 2]', flush=True); time.sleep(60)",
                "MALFORMED",
                "something else",
            ),
            ("say({'ready': {}}); next(lines); say({'id': 77, 'answer': {}})", "MALFORMED", "another question"),
            ("say({'ready': {}}); next(lines); time.sleep(60)", "UNAVAILABLE", "within 1 s"),
            ("say({'ready': {}}); next(lines); sys.exit('boom')", "UNAVAILABLE", "status 1: boom"),
            ("sys.exit(7)", "UNAVAILABLE", "status 7"),
            ("say({'failed': 'no module'}); time.sleep(60)", "UNAVAILABLE", r"vprism-pipelines\[vnstock\]"),
        ],
        ids=["garbage", "not an object", "wrong id", "hangs", "dies", "dies at once", "no vnstock"],
    )
    def test_a_process_that_misbehaves_is_a_typed_error_and_leaves_nothing(
        self,
        stand_in: Callable[[str], str],
        tmp_path: Path,
        monkeypatch: pytest.MonkeyPatch,
        code: str,
        error: str,
        said: str,
    ) -> None:
        nest = tmp_path / "tmp"
        nest.mkdir()
        monkeypatch.setattr("tempfile.tempdir", str(nest))
        provider = KbsProvider(VnstockChild(python=stand_in(code), answer_timeout=1, calls_per_minute=1e6))
        payload = fetch(provider, request(provider))
        assert (payload.status, payload.error) == (0, error)
        with pytest.raises(ProviderError, match=said):
            provider.parse(payload)
        assert list(nest.iterdir()) == []

    def test_an_interpreter_that_is_not_there_is_unavailable(self) -> None:
        provider = KbsProvider(VnstockChild(python="/nowhere/python"))
        with pytest.raises(Unavailable, match="VNSTOCK_PYTHON"):
            provider.parse(fetch(provider, request(provider)))

    def test_after_a_death_the_next_question_is_answered_by_a_new_process(
        self, stand_in: Callable[[str], str], tmp_path: Path
    ) -> None:
        mark = tmp_path / "died"
        code = f"""
            mark = pathlib.Path({str(mark)!r})
            say({{"ready": {{}}}})
            question = json.loads(next(lines))
            if not mark.exists():
                mark.touch()
                os._exit(9)
            say({{"id": question["id"], "answer": {{"rows": [1]}}}})
            next(lines)
        """
        child = VnstockChild(python=stand_in(code), calls_per_minute=1e6)
        first, second = asyncio.run(child.ask({})), asyncio.run(child.ask({}))
        assert first.error == "UNAVAILABLE"
        assert second.error is None
        asyncio.run(child.aclose())

    def test_the_process_sees_nothing_of_our_environment(
        self, stand_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for name in ("HOME", "VNSTOCK_API_KEY", "HTTPS_PROXY", "DUCKDB_DATABASE", "AWS_SECRET_ACCESS_KEY"):
            monkeypatch.setenv(name, "ours")
        child = VnstockChild(python=stand_in(ECHO), calls_per_minute=1e6)
        answer = asyncio.run(child.ask({})).content
        home = str(child.home)
        asyncio.run(child.aclose())
        assert "ours" not in answer["env"].values()
        assert answer["env"]["HOME"] == home
        assert answer["cwd"].startswith(home)
        assert answer["env"]["TZ"] == "Asia/Ho_Chi_Minh"
        assert answer["env"]["VNSTOCK_DISABLE_AGENT_SETUP"] == "1"

    def test_questions_keep_the_pace_whoever_asks(self, stand_in: Callable[[str], str]) -> None:
        child = VnstockChild(python=stand_in(ECHO), calls_per_minute=600)

        async def ask_all() -> None:
            await asyncio.gather(*(child.ask({}) for _ in range(6)))

        began = time.monotonic()
        asyncio.run(ask_all())
        took = time.monotonic() - began
        asyncio.run(child.aclose())
        assert took >= 0.5

    def test_a_cancelled_question_ends_the_process_at_once(self, stand_in: Callable[[str], str]) -> None:
        child = VnstockChild(python=stand_in("say({'ready': {}}); time.sleep(60)"), calls_per_minute=1e6)
        began = time.monotonic()
        with pytest.raises(TimeoutError):
            asyncio.run(asyncio.wait_for(child.ask({}), 1.0))
        assert time.monotonic() - began < 10
        assert child.pid is None
        assert child.home is None

    def test_offline_starts_nothing(self, stand_in: Callable[[str], str], tmp_path: Path) -> None:
        mark = tmp_path / "started"
        child = VnstockChild(python=stand_in(f"pathlib.Path({str(mark)!r}).touch()"), offline=True)
        assert asyncio.run(child.ask({})).error == "UNAVAILABLE"
        assert not mark.exists()

    def test_settings_choose_interpreter_mirror_timeout_and_pace(
        self, stand_in: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("VNSTOCK_PYTHON", stand_in(ECHO))
        chosen = Settings(
            _env_file=None,
            provider_base_urls={"kbs": "http://127.0.0.1:1", "yahoo": "http://127.0.0.1:2"},
            provider_timeout=7,
            rate_limit_requests_per_minute=6,
        )  # type: ignore[call-arg]
        child = VnstockChild.from_settings(chosen)
        told = asyncio.run(child.ask({})).content["setup"]
        asyncio.run(child.aclose())
        assert told == {
            "routes": {
                "kbbuddywts.kbsec.com.vn": "http://127.0.0.1:1",
                "trading.vietcap.com.vn": None,
                "iq.vietcap.com.vn": None,
            },
            "timeout": 7.0,
        }
        assert child.calls_per_minute == 6
        assert VnstockChild.from_settings(Settings(_env_file=None)).calls_per_minute == 15  # type: ignore[call-arg]


def test_the_code_location_never_imports_vnstock_or_pandas() -> None:
    probe = "import sys, vprism_pipelines.providers.vnstock; print({'vnstock', 'pandas', 'requests'} & {*sys.modules})"
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# --- the quarantine -----------------------------------------------------------------------------------------------


@pytest.mark.processes
def test_the_quarantine_refuses_other_hosts_processes_and_writes_outside(tmp_path: Path) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    outside.mkdir()
    with socket.create_server(("127.0.0.1", 0)) as stranger, ReplayServer() as server:
        script = f"""
            import json, os, pathlib, runpy, socket, subprocess, urllib.request
            worker = runpy.run_path({vnstock_worker.__file__!r})
            walls = worker["Quarantine"](pathlib.Path({str(home)!r}), {{"data.example": {server.url!r}}}, 5.0)
            walls.install()
            walls.install_http()
            import requests
            outcome = {{}}
            def attempt(name, call):
                try:
                    call()
                    outcome[name] = "done"
                except OSError as error:
                    outcome[name] = "refused"
            there, port = "127.0.0.1", {stranger.getsockname()[1]}
            attempt("connect", lambda: socket.create_connection((there, port), 2))
            attempt("udp", lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b"x", (there, port)))
            attempt("resolve", lambda: socket.getaddrinfo("hq.vnstocks.com", 443))
            attempt("urllib", lambda: urllib.request.urlopen(f"http://{{there}}:{{port}}/", timeout=2))
            attempt("requests", lambda: requests.get("https://hq.vnstocks.com/analytics", timeout=2))
            attempt("routed", lambda: requests.get("https://data.example/api/price/symbols/getAll"))
            attempt("popen", lambda: subprocess.run(["true"]))
            attempt("system", lambda: os.system("true"))
            attempt("write", lambda: pathlib.Path({str(outside)!r}, "AGENTS.md").write_text("x"))
            attempt("mkdir", lambda: pathlib.Path({str(outside)!r}, "d").mkdir())
            attempt("escape", lambda: pathlib.Path({str(home)!r}, "..", "outside", "e").write_text("x"))
            pathlib.Path({str(home)!r}, "f").write_text("x")
            attempt("move", lambda: os.rename({str(home)!r} + "/f", {str(outside)!r} + "/f"))
            attempt("own", lambda: pathlib.Path({str(home)!r}, "own").write_text("x"))
            print(json.dumps([outcome, walls.report()]))
        """
        done = subprocess.run(
            [sys.executable, "-I", "-B", "-c", textwrap.dedent(script)], capture_output=True, text=True, check=True
        )
        stranger.settimeout(0.2)
        with pytest.raises(TimeoutError):
            stranger.accept()
    outcome, reported = json.loads(done.stdout)
    assert {name for name, result in outcome.items() if result == "done"} == {"routed", "own"}
    assert server.requests == ["GET /api/price/symbols/getAll"]
    assert list(outside.iterdir()) == []
    assert "connect hq.vnstocks.com:443" in reported
    assert any(what.startswith("write ") for what in reported)
