"""Dagster's run history on this machine without a flush to disk for every event.

Dagster opens SQLite anew for each of the hundreds of writes of a run; every commit, and every close by the last
connection, waits for the disk. In the write-ahead mode it uses, a commit that does not wait can be lost when the power
fails, never when a process dies, and the file stays whole. What the run did is in the warehouse either way.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def unhurried() -> Iterator[None]:
    """Meanwhile SQLite connections made through SQLAlchemy do not wait for the disk."""
    from sqlalchemy import event
    from sqlalchemy.engine import Engine

    held: dict[str, sqlite3.Connection] = {}

    def relax(connection: Any, _: object) -> None:
        if not isinstance(connection, sqlite3.Connection):
            return  # PostgreSQL, of a scaled-out installation
        connection.execute("PRAGMA synchronous = NORMAL")
        path = connection.execute("PRAGMA database_list").fetchone()[2]
        if path and path not in held:
            # As long as this one is open, none of the others is the last, whose close would write everything back.
            held[path] = sqlite3.connect(path, check_same_thread=False)
            held[path].execute("SELECT count(*) FROM sqlite_schema").fetchone()

    event.listen(Engine, "connect", relax)
    try:
        yield
    finally:
        event.remove(Engine, "connect", relax)
        for connection in held.values():
            connection.close()
