"""The parent's end of the vnstock process: starts it, paces it, asks it, outlives it.

The process gets a private HOME and working directory that are removed afterwards, however it ends, and an environment
with nothing of ours in it. Whatever goes wrong with it becomes an `Answer` with an error code, and the next question
starts a new one. See `vnstock_worker` for the process itself and the protocol.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import queue
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from vprism_pipelines.errors import Malformed, ProviderError, RateLimited, Unavailable
from vprism_pipelines.settings import Settings

WORKER = Path(__file__).with_name("vnstock_worker.py")
CALLS_PER_MINUTE = 15
"""Below the 20 a minute that vnstock grants a guest, for KBS and VCI together."""

UPSTREAMS: Mapping[str, tuple[str, ...]] = {
    "kbs": ("kbbuddywts.kbsec.com.vn",),
    "vci": ("trading.vietcap.com.vn", "iq.vietcap.com.vn"),
}
_LONGEST_LINE = 64 << 20  # bytes
_START_TIME = 120.0  # seconds: importing pandas and matplotlib on a busy machine, byte code not compiled


@dataclass(frozen=True, slots=True)
class Answer:
    """What came of one question.

    Attributes:
        content: The answer; or what went wrong: code, message, retry_after (seconds).
        error: Code of the error taxonomy; None when `content` is an answer.
        refused: What vnstock tried and was not allowed to do since the previous answer.
        latency_ms: From the question sent to the answer received.
    """

    content: Mapping[str, Any]
    error: str | None = None
    refused: tuple[str, ...] = ()
    latency_ms: float = 0.0

    @property
    def retry_after(self) -> float | None:
        return self.content.get("retry_after") if self.error else None


class VnstockChild:
    """One vnstock process, shared by the providers `kbs` and `vci` because its quota is shared.

    Questions are answered one at a time, from any thread or event loop.

    Args:
        python: Interpreter that has vnstock; default: `VNSTOCK_PYTHON`, else the running one.
        base_urls: Provider name -> base URL asked instead of the provider's own hosts.
        request_timeout: Seconds per HTTP request inside the process.
        answer_timeout: Seconds until an answer is given up and the process killed. The default leaves room for
            vnstock's own three attempts, their back-off and one Retry-After.
        calls_per_minute: Pace of questions. vnstock's limiter stands behind it whatever this says.
        offline: Answer every question with UNAVAILABLE instead of starting anything.
    """

    def __init__(
        self,
        *,
        python: str | None = None,
        base_urls: Mapping[str, str] | None = None,
        request_timeout: float = 30.0,
        answer_timeout: float | None = None,
        calls_per_minute: float = CALLS_PER_MINUTE,
        offline: bool = False,
    ) -> None:
        self._python = python
        self._offline = offline
        self._setup = {
            "routes": {host: (base_urls or {}).get(name) for name, hosts in UPSTREAMS.items() for host in hosts},
            "timeout": request_timeout,
        }
        self._answer_timeout = answer_timeout or 3 * request_timeout + 45.0
        self.calls_per_minute = calls_per_minute
        self._free_at = 0.0
        self._asked = 0
        self._process: _Process | None = None
        self._current: threading.Event | None = None
        self._thread: ThreadPoolExecutor | None = None

    @classmethod
    def from_settings(cls, settings: Settings) -> VnstockChild:
        """The process that an installation's settings describe."""
        return cls(
            base_urls={name: url for name, url in settings.provider_base_urls.items() if name in UPSTREAMS},
            request_timeout=settings.provider_timeout,
            calls_per_minute=min(CALLS_PER_MINUTE, settings.rate_limit_requests_per_minute or CALLS_PER_MINUTE),
            offline=settings.offline,
        )

    @property
    def pid(self) -> int | None:
        """Process id while one is running."""
        return self._process.pid if self._process and self._process.alive else None

    @property
    def home(self) -> Path | None:
        """The private directory while a process is running."""
        return self._process.home if self._process else None

    async def ask(self, question: Mapping[str, Any]) -> Answer:
        """Put one question; waits for its turn and the pace. Never raises for what the process or upstream does."""
        if self._offline:
            return _failed(Unavailable("offline: VPRISM_OFFLINE refuses every request"))
        self._thread = self._thread or ThreadPoolExecutor(1, thread_name_prefix="vnstock")
        stop = threading.Event()
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, self._ask, question, stop)
        except asyncio.CancelledError:
            self._interrupt(stop)  # the event loop cannot close while the thread waits for the process
            raise

    async def aclose(self) -> None:
        """End the process and remove its directory; a later question starts a new one."""
        self._interrupt(self._current)
        thread, self._thread = self._thread, None
        if thread:
            await asyncio.to_thread(thread.shutdown, cancel_futures=True)
        self._end()

    def _interrupt(self, stop: threading.Event | None) -> None:
        if stop and stop is self._current:
            stop.set()
            self._end()

    def _ask(self, question: Mapping[str, Any], stop: threading.Event) -> Answer:
        self._current = stop
        if stop.wait(max(0.0, self._free_at - time.monotonic())):
            return _failed(Unavailable("interrupted while waiting for its turn"))
        began = time.monotonic()
        try:
            process = self._running()
            if stop.is_set():
                raise Unavailable("interrupted while the vnstock process started")
            self._asked += 1
            began = time.monotonic()
            self._free_at = began + 60.0 / self.calls_per_minute * question.get("calls", 1)
            process.send({"id": self._asked, **question})
            reply = process.receive(self._answer_timeout)
            content = reply.get("error", reply.get("answer"))
            if reply.get("id") != self._asked or not isinstance(content, dict):
                raise Malformed("the vnstock process answered another question")
        except ProviderError as error:
            self._end()
            return _failed(error, (time.monotonic() - began) * 1000)
        return Answer(
            content=content,
            error=str(content.get("code")) if "error" in reply else None,
            refused=tuple(reply.get("refused", ())),
            latency_ms=(time.monotonic() - began) * 1000,
        )

    def _running(self) -> _Process:
        if self._process is None or not self._process.alive:
            self._end()
            self._process = _Process(self._python, self._setup)
        return self._process

    def _end(self) -> None:
        process, self._process = self._process, None
        if process:
            process.end()


class _Process:
    """A running worker and its directory.

    Raises:
        Unavailable: It did not start.
    """

    def __init__(self, python: str | None, setup: Mapping[str, Any]) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="vprism-vnstock-", ignore_cleanup_errors=True)
        self.home = Path(self._directory.name).resolve()
        work = self.home / "work"
        work.mkdir()
        command = [python or os.environ.get("VNSTOCK_PYTHON") or sys.executable, "-I", "-B", "-X", "utf8", str(WORKER)]
        try:
            with (self.home / "stderr.log").open("wb") as log:
                self._process = subprocess.Popen(  # noqa: S603
                    command,
                    cwd=work,
                    env=_environment(self.home),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                )
        except OSError as error:
            self._directory.cleanup()
            raise Unavailable(f"cannot start {command[0]}: {error}", hint="set VNSTOCK_PYTHON") from error
        self._lines: queue.Queue[bytes] = queue.Queue()
        assert self._process.stdout is not None
        threading.Thread(target=self._read, args=(self._process.stdout,), daemon=True).start()
        try:
            self.send(setup)
            first = self.receive(_START_TIME)
        except ProviderError:
            self.end()
            raise
        if "ready" not in first:
            self.end()
            raise Unavailable(
                f"vnstock cannot be used: {first.get('failed')}",
                hint="pip install 'vprism-pipelines[vnstock]', or set VNSTOCK_PYTHON to an interpreter that has it",
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def send(self, message: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message).encode() + b"\n")
            self._process.stdin.flush()
        except (OSError, ValueError) as error:  # it died, or it was ended meanwhile
            raise self._death() from error

    def receive(self, timeout: float) -> dict[str, Any]:
        try:
            line = self._lines.get(timeout=timeout)
        except queue.Empty:
            raise Unavailable(f"the vnstock process gave no answer within {timeout:g} s") from None
        if not line:
            raise self._death()
        try:
            message = json.loads(line)
        except ValueError as error:
            raise Malformed(f"the vnstock process wrote something else than an answer: {line[:80]!r}") from error
        if not isinstance(message, dict):
            raise Malformed("the vnstock process wrote something else than an answer")
        return message

    def end(self) -> None:
        """Kill it and remove its directory. Safe to repeat, and from another thread than the one that waits."""
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with contextlib.suppress(OSError):  # unsent bytes for a process that is gone
            self._process.stdin.close()
        self._directory.cleanup()

    def _read(self, source: IO[bytes]) -> None:
        with source:
            for line in iter(lambda: source.readline(_LONGEST_LINE), b""):
                self._lines.put(line)
        self._lines.put(b"")

    def _death(self) -> Unavailable:
        try:
            status: int | None = self._process.wait(timeout=5)
            last = (self.home / "stderr.log").read_text(encoding="utf-8", errors="replace").strip().splitlines()[-1:]
        except (OSError, subprocess.TimeoutExpired):
            status, last = self._process.poll(), []
        return Unavailable(f"the vnstock process ended with status {status}{': ' if last else ''}{''.join(last)}"[:300])


def _failed(error: ProviderError, latency_ms: float = 0.0) -> Answer:
    message = f"{error.message}; {error.hint}" if error.hint else error.message
    retry_after = error.retry_after if isinstance(error, RateLimited) else None
    return Answer(
        content={"code": error.code, "message": message, "retry_after": retry_after},
        error=error.code,
        latency_ms=latency_ms,
    )


def _environment(home: Path) -> dict[str, str]:
    """All that the process sees of ours: vnstock reads every value it finds in its environment."""
    return {
        "PATH": os.defpath,
        "LANG": "C.UTF-8",
        "TZ": "Asia/Ho_Chi_Minh",  # VCI's window ends at the local midnight of the machine that asks
        "HOME": str(home),
        "TMPDIR": str(home),
        "MPLCONFIGDIR": str(home / "matplotlib"),
        "VNSTOCK_DISABLE_AGENT_SETUP": "1",
        "VNSTOCK_DISABLE_GLOBAL_AGENT": "1",
        "VNSTOCK_AGENT_TARGETS": "none",
        "VNSTOCK_TELEMETRY": "off",
    }
