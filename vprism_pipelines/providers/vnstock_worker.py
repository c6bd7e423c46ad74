"""The child process that runs the vnstock package in quarantine. Nothing in the code location imports this file.

vnstock writes files into HOME and the working directory at import, fetches advertisements, prints them on stdout, and
ends the process when its quota is used up. So it lives here: `Quarantine` refuses every connection but those to the
data hosts, every process, and every write outside the private HOME; what it refused is reported with each answer.
vnstock's own limiter, circuit breaker and data caps are left as they are. The walls are for a careless library: they
stop everything that goes through Python, they are no sandbox against malice.

Only the standard library is imported before the quarantine stands, so any interpreter that has vnstock can run it:

    python -I -B vnstock_worker.py

Protocol, one JSON object a line. stdin begins with the set-up, `{"routes": {host: base URL or null}, "timeout": 30}`;
the child answers `{"ready": {"vnstock": "4.0.8", …}}` or `{"failed": "why"}`, then answers questions one by one:

    {"id": 1, "source": "VCI", "op": "history", "symbol": "FPT", "index": false, "start": "…", "end": "…"}
    {"id": 1, "answer": {"rows": [...], …}, "refused": ["connect hq.vnstocks.com:443"]}
    {"id": 1, "error": {"code": "RATE_LIMITED", "message": "…", "retry_after": 60}, "refused": []}

Rows are as vnstock returned them, in its units. `code` is a code of `vprism_pipelines.errors`. The child ends, and
removes its HOME, when stdin closes: a parent that was killed leaves nothing behind.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import queue
import socket
import sys
import threading
import types
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import urlsplit

SECTOR_LEVEL = 2  # of the four levels of the industry classification: its supersectors
MOST_TRADES = 30_000  # what vnstock cuts trades to
QUOTA_WAIT = 60.0  # seconds: the shortest window of vnstock's limiter

_PROCESS = {
    "subprocess.Popen",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "os.forkpty",
    "pty.spawn",
}
_CONNECT = {"socket.connect", "socket.sendto", "socket.sendmsg"}
_RESOLVE = {"socket.getaddrinfo", "socket.gethostbyname", "socket.gethostbyname_ex"}
# Audit event -> position of the path that is written to.
_WRITE = {
    "os.mkdir": 0,
    "os.remove": 0,
    "os.rmdir": 0,
    "os.truncate": 0,
    "os.rename": 1,
    "os.link": 1,
    "os.symlink": 1,
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_BY_STATUS = {
    401: "AUTH_REQUIRED",
    402: "PREMIUM_REQUIRED",
    403: "BLOCKED",
    404: "NOT_FOUND",
    410: "RETIRED",
    429: "RATE_LIMITED",
    451: "BLOCKED",
}


class Failure(Exception):
    """A question that could not be answered, under a code of the error taxonomy."""

    def __init__(self, code: str, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.code = code
        self.retry_after = retry_after


class Quarantine:
    """What this process may reach and write.

    Args:
        home: The private directory; the only place that may be written.
        routes: Upstream host -> base URL that replaces it, or None to go to the host itself over https.
        timeout: Seconds allowed to connect, and between two bytes.
    """

    def __init__(self, home: Path, routes: Mapping[str, str | None], timeout: float) -> None:
        self.home = os.path.realpath(home)
        self.routes = routes
        self.timeout = timeout
        self.endpoints = {_endpoint(base or f"https://{host}") for host, base in routes.items()}
        self.addresses: set[tuple[Any, ...]] = set()
        self.refused: dict[str, None] = {}
        self.last: tuple[int, bytes] | None = None
        """Status and body of the latest HTTP answer to the current question."""
        self.heard: dict[str, bytes] = {}
        """Bodies of all answers to the current question, by path."""

    def install(self) -> None:
        """Raise the walls. They cannot be taken down again: audit hooks are for ever."""
        resolve = socket.getaddrinfo

        def getaddrinfo(*args: Any, **options: Any) -> Any:
            found = resolve(*args, **options)
            self.addresses.update(entry[4][:2] for entry in found)
            return found

        socket.getaddrinfo = getaddrinfo
        sys.addaudithook(self._audit)

    def install_http(self) -> None:
        """Route vnstock's requests, and remember the latest answer so that an empty table can be explained."""
        import requests

        send = requests.Session.send

        def guarded(session: Any, request: Any, **options: Any) -> Any:
            parts = urlsplit(request.url)
            base = self.routes.get(parts.hostname or "")
            if base:
                request.url = base.rstrip("/") + parts.path + (f"?{parts.query}" if parts.query else "")
            elif _endpoint(request.url) not in self.endpoints:
                self._note(f"connect {':'.join(map(str, _endpoint(request.url)))}")
                raise requests.exceptions.ConnectionError(f"egress refused: {parts.hostname}")
            self.last = None
            response = send(session, request, **{**options, "timeout": self.timeout})
            self.last = response.status_code, response.content
            self.heard[parts.path] = response.content
            return response

        requests.Session.send = guarded  # type: ignore[method-assign, assignment]

    def report(self) -> list[str]:
        """What was refused since the last report, once each."""
        refused, self.refused = self.refused, {}
        return list(refused)

    def _note(self, what: str) -> None:
        self.refused[what] = None

    def _audit(self, event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            if isinstance(flags, int) and flags & _WRITING and not isinstance(path, int):
                self._check_write(path)
        elif event in _WRITE:
            self._check_write(args[_WRITE[event]])
        elif event in _CONNECT:
            address = args[1]
            target = tuple(address[:2]) if isinstance(address, tuple) else (str(address), 0)
            if target not in self.addresses and target not in self.endpoints:
                self._note(f"connect {target[0]}:{target[1]}")
                raise ConnectionRefusedError(errno.ECONNREFUSED, f"egress refused: {target[0]}")
        elif event in _RESOLVE:
            host = args[0].decode() if isinstance(args[0], bytes) else args[0]
            if all(host != allowed for allowed, _ in self.endpoints):
                self._note(f"resolve {host}")
                raise socket.gaierror(socket.EAI_NONAME, f"egress refused: {host}")
        elif event in _PROCESS:
            self._note(f"run {args[0] if args else event}")
            raise PermissionError(errno.EPERM, "no process may be started here")

    def _check_write(self, path: Any) -> None:
        place = os.path.realpath(os.fsdecode(path))
        if place != os.devnull and place != self.home and not place.startswith(self.home + os.sep):
            self._note(f"write {place}")
            raise PermissionError(errno.EPERM, "no write outside the private directory", place)


class Vnstock:
    """Questions put to the package.

    Args:
        quarantine: Knows the latest HTTP answer.
    """

    def __init__(self, quarantine: Quarantine) -> None:
        # The real module asks the package index and runs `pip list` five times at import.
        upgrade = types.ModuleType("vnstock.core.utils.upgrade")
        upgrade.update_notice = lambda **_: None  # type: ignore[attr-defined]
        sys.modules[upgrade.__name__] = upgrade
        import vnstock
        from vnstock.core import exceptions

        self.package = vnstock
        self.exceptions = exceptions
        self.quarantine = quarantine
        self.blocked_as: dict[str, str] = {}
        self.versions = {name: version(name) for name in ("vnstock", "vnai")}

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """The answer to one question: {"rows": …} and what is needed to read them. No rows: the source has none.

        Raises:
            Failure: There is no answer, and why.
        """
        self.quarantine.last = None
        self.quarantine.heard.clear()
        ask = {
            "history": self._history,
            "listing": self._listing,
            "events": self._events,
            "board": self._board,
            "trades": self._trades,
            "figures": self._figures,
            "company": self._company,
        }[question["op"]]
        try:
            found = ask(question)
            failure = None if found["rows"] else self._explain(ValueError("an empty table"))
        except Failure:
            raise
        except (Exception, SystemExit) as error:
            found, failure = {"symbol": question["symbol"], "rows": []}, self._explain(error)
        if failure and failure.code != "NO_DATA":
            raise failure
        return {"source": question["source"], "op": question["op"], "versions": self.versions, **found}

    def _history(self, question: Mapping[str, Any]) -> dict[str, Any]:
        source, symbol = question["source"], question["symbol"]
        try:
            quote = self.package.Quote(source=source, symbol=symbol, show_log=False)
        except ValueError as error:
            raise Failure("NOT_FOUND", f"vnstock knows no {symbol!r} at {source}: {error}") from error
        asset_type = quote.provider.asset_type
        if (asset_type == "index") != question["index"]:
            # It guesses from the letters, and scales prices by its guess.
            raise Failure("NOT_FOUND", f"vnstock reads {symbol!r} as {asset_type}, which was not asked for")
        window = {"start": question["start"], "end": question["end"], "interval": "1D"}
        if source == "KBS":
            # Whole VND and the traded value; the table would round to 10 VND and drop the value.
            rows = json.loads(quote.history(**window, to_df=False))
        else:
            rows = _records(quote.history(**window))
        return {"symbol": symbol, "asset_type": asset_type, "rows": rows}

    def _listing(self, question: Mapping[str, Any]) -> dict[str, Any]:
        listing = self.package.Listing(source=question["source"])
        rows = _records(listing.symbols_by_exchange())
        if question["source"] == "VCI":
            industries = _records(listing.symbols_by_industries(lang="en"))
            sectors = {row["symbol"]: row["icb_name"] for row in industries if row["icb_level"] == SECTOR_LEVEL}
            rows = [{**row, "sector": sectors.get(row["symbol"])} for row in rows]
        return {"rows": rows}

    # The answers below are handed on as the source gave them: vnstock's tables lack the instants and the dates.

    def _board(self, question: Mapping[str, Any]) -> dict[str, Any]:
        symbols = question["symbols"].split(",")
        self.package.Trading(source=question["source"], symbol=symbols[0]).price_board(symbols_list=symbols)
        return {"rows": self._heard("/price/symbols/getList", "/stock/iss")}

    def _trades(self, question: Mapping[str, Any]) -> dict[str, Any]:
        quote = self.package.Quote(source=question["source"], symbol=question["symbol"], show_log=False)
        quote.intraday(page_size=MOST_TRADES)
        return {"symbol": question["symbol"], "rows": self._heard(f"/trade/history/{question['symbol']}")}

    def _figures(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Periods of a statement or of the ratios, as many as vnstock grants."""
        try:
            finance = self.package.Finance(
                source=question["source"], symbol=question["symbol"], period=question["period"]
            )
        except ValueError as error:
            raise Failure("NOT_FOUND", f"vnstock has no accounts of {question['symbol']!r}: {error}") from error
        table = getattr(finance, question["statement"])(dropna=False)
        said = self._heard("/financial-statement", "/statistics-financial")
        periods = said.get(f"{question['period']}s", []) if isinstance(said, dict) else said
        granted = sum(name not in ("item", "item_en", "item_id") for name in table.columns)
        return {"symbol": question["symbol"], "rows": periods[:granted]}

    def _company(self, question: Mapping[str, Any]) -> dict[str, Any]:
        self.package.Company(source=question["source"], symbol=question["symbol"]).overview()
        return {"symbol": question["symbol"], "rows": self._heard("/company/details")}

    def _heard(self, *endings: str) -> Any:
        """What the source said at the first of these paths, without its envelope; nothing where it was not asked."""
        body = next((body for path, body in self.quarantine.heard.items() if path.endswith(endings)), b"[]")
        content = json.loads(body)
        return content.get("data", []) if isinstance(content, dict) else content

    def _events(self, question: Mapping[str, Any]) -> dict[str, Any]:
        try:
            company = self.package.Company(source=question["source"], symbol=question["symbol"])
        except ValueError as error:
            raise Failure("NOT_FOUND", f"vnstock has no company {question['symbol']!r}: {error}") from error
        provider = company.provider
        fetch = getattr(provider, "_fetch_events", None)
        if fetch is not None:
            # The default asks for 50 events of every kind, where insider trades crowd out dividends.
            window = {"from_date": question["start"].replace("-", ""), "to_date": question["end"].replace("-", "")}
            provider._fetch_events = lambda: fetch(event_codes="DIV,ISS", **window)
        return {"symbol": question["symbol"], "rows": _records(company.events())}

    def _explain(self, error: BaseException) -> Failure:
        """The taxonomy's word for what vnstock raised, corrected by the HTTP answer it had before it."""
        known = self.exceptions
        if isinstance(error, SystemExit):
            return Failure("RATE_LIMITED", "vnstock's own quota is used up", QUOTA_WAIT)
        if isinstance(error, known.CircuitOpenError):
            code = self.blocked_as.get(error.host, "BLOCKED")
            return Failure(code, f"vnstock leaves {error.host} alone after it refused", error.remaining)
        if isinstance(error, known.DataSourceBlockedError):
            code = "RATE_LIMITED" if isinstance(error, known.RateLimitedError) else "BLOCKED"
            self.blocked_as[error.host] = code
            wait = error.retry_after or error.cooldown
            return Failure(code, f"{error.host} refused: HTTP {error.status_code}, {error.reason}", wait)
        what = f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
        if self.quarantine.last is None:
            return Failure("UNAVAILABLE", f"no answer came ({what})")
        status, body = self.quarantine.last
        start = " ".join(body[:200].decode("utf-8", "replace").split())
        if status != 200:
            firewall = status == 400 and "blocked" in start.lower()  # KBS's way to refuse a client
            code = "BLOCKED" if firewall else _BY_STATUS.get(status, "UNAVAILABLE" if status >= 500 else "MALFORMED")
            return Failure(code, f"HTTP {status}: {start}")
        if start.startswith("<"):
            return Failure("BLOCKED", f"a web page came instead of data: {start}")
        try:
            content = json.loads(body)
        except ValueError:
            return Failure("MALFORMED", f"the answer is not JSON: {start}")
        if isinstance(content, dict) and content.get("errorCode"):
            return Failure("MALFORMED", f"an error came instead of data: {start}")
        if _holds_rows(content):
            return Failure("MALFORMED", f"vnstock could not read the answer ({what})")
        return Failure("NO_DATA", "there is nothing for this symbol and window")


def _endpoint(url: str) -> tuple[str, int]:
    parts = urlsplit(url)
    return parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80)


def _records(frame: Any) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads(
        frame.to_json(orient="records", date_format="iso", double_precision=15, force_ascii=False)
    )
    return rows


def _holds_rows(content: Any) -> bool:
    """Whether an upstream answer has a row somewhere: a table as a list of rows, or of columns."""
    if isinstance(content, dict):
        return any(_holds_rows(value) for value in content.values() if isinstance(value, dict | list))
    if not isinstance(content, list):
        return False
    return any(
        _holds_rows(item) if isinstance(item, dict) and any(isinstance(v, list) for v in item.values()) else True
        for item in content
    )


def _listen(source: TextIO, home: Path) -> queue.Queue[str]:
    """Lines of stdin; when it closes, the parent is gone: tidy up and end, whatever is going on."""
    lines: queue.Queue[str] = queue.Queue()

    def read() -> None:
        for line in source:
            lines.put(line)
        _remove(home)
        os._exit(0)

    threading.Thread(target=read, daemon=True).start()
    return lines


def _remove(home: Path) -> None:
    """Like `shutil.rmtree`, by absolute paths: the quarantine cannot tell where a path beside a descriptor leads."""
    for folder, folders, files in os.walk(home, topdown=False):
        for name in (*files, *folders):
            path = Path(folder, name)
            with contextlib.suppress(OSError):
                path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    with contextlib.suppress(OSError):
        home.rmdir()


def main() -> None:
    """Serve questions from stdin until it closes."""
    home = Path(os.environ["HOME"])
    # vnstock prints and might prompt: the protocol gets descriptors of its own, fd 0 and 1 lead nowhere.
    questions, answers = os.fdopen(os.dup(0), encoding="utf-8"), os.fdopen(os.dup(1), "w", encoding="utf-8")
    nowhere = os.open(os.devnull, os.O_RDWR)
    os.dup2(nowhere, 0)
    os.dup2(nowhere, 1)
    lines = _listen(questions, home)

    def say(message: Mapping[str, Any]) -> None:
        answers.write(json.dumps(message, ensure_ascii=False, allow_nan=False) + "\n")
        answers.flush()

    setup = json.loads(lines.get())
    quarantine = Quarantine(home, setup["routes"], setup["timeout"])
    quarantine.install()
    try:
        quarantine.install_http()
        vnstock = Vnstock(quarantine)
    except Exception as error:
        say({"failed": f"{type(error).__name__}: {error}"})
        return
    say({"ready": vnstock.versions})
    while True:
        question = json.loads(lines.get())
        try:
            reply: dict[str, Any] = {"answer": vnstock.answer(question)}
            json.dumps(reply, allow_nan=False)
        except Failure as failure:
            reply = {"error": {"code": failure.code, "message": str(failure), "retry_after": failure.retry_after}}
        except ValueError:
            reply = {"error": {"code": "MALFORMED", "message": "not-a-number among the values", "retry_after": None}}
        say({"id": question["id"], **reply, "refused": quarantine.report()})


if __name__ == "__main__":
    main()
