"""A headless Chromium, driven over its own DevTools protocol: enough to open a page, wait for words, click, look."""

from __future__ import annotations

import base64
import itertools
import json
import shutil
import subprocess
import time
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from websockets.sync.client import connect

QUIET = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--remote-debugging-port=0",
    "--window-size=4400,2600",
)


def find() -> str | None:
    """Path of an installed Chromium or Chrome."""
    return next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome", "chrome"))), None)


class Browser:
    """One browser with one tab. `profile` is an empty folder of its own."""

    def __init__(self, program: str, profile: Path) -> None:
        self._process = subprocess.Popen(
            [program, *QUIET, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        port = self._port(profile / "DevToolsActivePort")
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=10) as answer:
            tab = next(page for page in json.load(answer) if page["type"] == "page")
        self._open = ExitStack()
        self._socket = self._open.enter_context(connect(tab["webSocketDebuggerUrl"], max_size=None))
        self._numbers = itertools.count(1)

    @staticmethod
    def _port(file: Path) -> str:
        for _ in range(200):
            if file.is_file() and (lines := file.read_text().splitlines()):
                return lines[0]
            time.sleep(0.1)
        raise TimeoutError("the browser did not start")

    def _ask(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self._numbers)
        self._socket.send(json.dumps({"id": number, "method": method, "params": parameters}))
        while True:
            message = json.loads(self._socket.recv(timeout=60))
            if message.get("id") == number:
                result: dict[str, Any] = message.get("result", {})
                return result

    def open(self, url: str) -> None:
        """Go to a page."""
        self._ask("Page.navigate", url=url)

    def evaluate(self, script: str) -> Any:
        """Value of a JavaScript expression in the page."""
        return self._ask("Runtime.evaluate", expression=script, returnByValue=True)["result"].get("value")

    def wait_for(self, script: str, seconds: float = 60) -> Any:
        """Wait until an expression is true and return it."""
        for _ in range(int(seconds * 4)):
            if found := self.evaluate(script):
                return found
            time.sleep(0.25)
        raise TimeoutError(f"never true: {script}\nthe page says: {self.evaluate('document.body.innerText')[:2000]}")

    def wait_for_words(self, *words: str) -> str:
        """Wait until the page shows all words and return its text."""
        shown = " && ".join(f"document.body.innerText.includes({json.dumps(word)})" for word in words)
        self.wait_for(shown)
        return str(self.evaluate("document.body.innerText"))

    def screenshot(self, path: Path) -> None:
        """Keep what the page looks like."""
        path.write_bytes(base64.b64decode(self._ask("Page.captureScreenshot", format="png")["data"]))

    def close(self) -> None:
        """End the browser."""
        self._open.close()
        self._process.terminate()
        self._process.wait(timeout=20)
