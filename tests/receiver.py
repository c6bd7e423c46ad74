"""A server that takes what is sent to it: a push gateway, a collector of spans."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import NamedTuple


class Received(NamedTuple):
    """One request that came."""

    method: str
    path: str
    authorization: str | None
    body: bytes


@contextmanager
def receiver() -> Iterator[tuple[str, list[Received]]]:
    """Its address, and what it was sent."""
    taken: list[Received] = []

    class Handler(BaseHTTPRequestHandler):
        def do_PUT(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            taken.append(Received(self.command, self.path, self.headers["Authorization"], body))
            self.send_response(200)
            self.end_headers()

        def do_POST(self) -> None:
            self.do_PUT()

        def log_message(self, *_: object) -> None: ...

    server = HTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", taken
    finally:
        server.shutdown()
        server.server_close()
