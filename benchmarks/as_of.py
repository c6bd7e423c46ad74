"""`python -m benchmarks.as_of`: what reading the past costs against reading what is believed now.

A ledger of two million bars, one in twenty of them revised. Plain and as-of reads alternate; the medians of their times
are compared, and a read as of now is proven equal to the plain one before anything is timed.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import duckdb

from vprism_pipelines.tables import CLEAN_BARS
from vprism_pipelines.warehouse import schema

SYMBOLS, SESSIONS, ROUNDS = 800, 2_500, 40
REVISED = 20  # one bar in so many has a second version
LIMIT = 1.25

_LEDGER = f"""
    INSERT INTO clean.bars_ledger BY NAME
    WITH bars AS (
        SELECT format('VN:STOCK:{{:03d}}', s) AS symbol, DATE '2016-01-04' + d::INTEGER AS session,
               10_000 + 10 * (hash(s, d) % 5_000)::DOUBLE AS close, hash(s, d, 1) % {REVISED} = 0 AS revised
        FROM range({SYMBOLS}) AS symbols(s), range({SESSIONS}) AS sessions(d)),
    versions AS (
        SELECT *, 0 AS version FROM bars
        UNION ALL SELECT * REPLACE (close + 50 AS close), 1 AS version FROM bars WHERE revised)
    SELECT symbol, session, 'bench' AS provider, close AS open, close AS high, close AS low, close,
           100_000 + version AS volume, 'VND' AS currency, 'raw' AS price_basis, 0 AS flags, false AS provisional,
           session::TIMESTAMPTZ + INTERVAL (8 + 30 * version) HOUR AS known_from,
           CASE WHEN revised AND version = 0 THEN session::TIMESTAMPTZ + INTERVAL 38 HOUR END AS known_to,
           CASE WHEN version = 0 THEN 'new' ELSE 'late_correction' END AS change_class,
           'fetch' AS fetch_id, 0 AS payload_row, 1 + version AS batch
    FROM versions ORDER BY version, symbol, session
"""
READS: dict[str, tuple[str, dict[str, Any]]] = {
    "one day": ("session = $day", {"day": "2021-06-01"}),
    "one symbol": ("symbol = $symbol", {"symbol": "VN:STOCK:400"}),
}
NOW, PAST = "2100-01-01 00:00:00+00", "2021-06-02 00:00:00+00"


def ledger(file: Path) -> duckdb.DuckDBPyConnection:
    """A published file with the ledger, open for reading."""
    with duckdb.connect(str(file)) as connection:
        connection.execute("SET TimeZone = 'UTC'")
        schema.ensure(connection)
        connection.execute(_LEDGER)
        assert connection.execute(f"SELECT count(*) > 2_000_000 FROM {CLEAN_BARS.full_name}").fetchone() == (True,)
    reader = duckdb.connect(str(file), read_only=True)
    reader.execute("SET TimeZone = 'UTC'; SET threads = 1")  # other work on the machine weighs less
    return reader


def alternating(connection: duckdb.DuckDBPyConnection, ways: list[tuple[str, dict[str, Any]]]) -> list[float]:
    """Median seconds of each statement, one after the other in every round."""
    times: list[list[float]] = [[] for _ in ways]
    for _ in range(ROUNDS):
        for taken, (statement, values) in zip(times, ways, strict=True):
            started = time.perf_counter()
            connection.execute(statement, values).to_arrow_table()
            taken.append(time.perf_counter() - started)
    return [statistics.median(taken) for taken in times]


def compare(connection: duckdb.DuckDBPyConnection, where: str, values: dict[str, Any]) -> tuple[float, float, float]:
    """Median seconds of the plain read, as of now, and as of a day in the past."""
    plain = f"FROM clean.bars WHERE {where}"
    now, past = (f"FROM clean.bars_as_of(TIMESTAMPTZ '{instant}') WHERE {where}" for instant in (NOW, PAST))
    differing = f"SELECT count(*) FROM (({plain} EXCEPT {now}) UNION ALL ({now} EXCEPT {plain}))"
    if connection.execute(differing, values).fetchone() != (0,):
        sys.exit("as of now is not what is believed now")
    one, two, three = alternating(connection, [(plain, values), (now, values), (past, values)])
    return one, two, three


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, ledger(Path(folder) / "bench.duckdb") as connection:
        rows = connection.execute("SELECT count(*), count(known_to) FROM clean.bars_ledger").fetchone()
        assert rows is not None
        print(f"{rows[0]:,} versions, {rows[1]:,} of them replaced, {ROUNDS} alternating rounds, medians\n")
        print("| read | plain ms | as of now ms | ratio | as of the past ms | ratio |\n|---|---|---|---|---|---|")
        slow = False
        for name, (where, values) in READS.items():
            plain, now, past = compare(connection, where, values)
            slow = slow or max(now, past) > LIMIT * plain
            print(
                f"| {name} | {plain * 1e3:.2f} | {now * 1e3:.2f} | {now / plain:.3f}"
                f" | {past * 1e3:.2f} | {past / plain:.3f} |"
            )
    if slow:
        sys.exit(f"an as-of read costs more than {LIMIT} plain ones")


if __name__ == "__main__":
    main()
