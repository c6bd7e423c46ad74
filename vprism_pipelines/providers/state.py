"""What several processes and later runs must know about a provider: quota counters and circuits, in a SQLite file."""

from __future__ import annotations

from pathlib import Path

from vprism_pipelines.state import SharedState

# In draws, days and flights `provider` is the account its requests are counted on.
_SCHEMA = """
CREATE TABLE IF NOT EXISTS draws (provider TEXT NOT NULL, at REAL NOT NULL, cost INTEGER NOT NULL);
DROP INDEX IF EXISTS draws_by_time;
CREATE INDEX IF NOT EXISTS draws_in_time ON draws (provider, at, cost);
CREATE TABLE IF NOT EXISTS days (
    provider TEXT NOT NULL, day TEXT NOT NULL, used INTEGER NOT NULL, PRIMARY KEY (provider, day)
) WITHOUT ROWID;
DROP TABLE IF EXISTS leases;
CREATE TABLE IF NOT EXISTS flights (
    id INTEGER PRIMARY KEY, provider TEXT NOT NULL, expires REAL NOT NULL, host TEXT NOT NULL, pid INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS circuits (
    provider TEXT PRIMARY KEY, failures INTEGER NOT NULL, cooldown REAL NOT NULL, open_until REAL, cause TEXT NOT NULL
) WITHOUT ROWID;
"""


class State(SharedState):
    """Quotas and circuits, shared by every process that uses the same path.

    Args:
        path: The file, created with its folder on first use; None keeps everything in memory.
    """

    def __init__(self, path: Path | None) -> None:
        super().__init__(path, _SCHEMA, content="the state of provider quotas", lost="today's request counters")
