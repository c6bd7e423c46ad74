"""`python -m benchmarks.analytics`: what one new session costs in the warehouse against a full rebuild of analytics.

Both ways run over one warehouse, interleaved, each in a transaction that is rolled back; medians are compared, and
what they wrote is proven equal, bit for bit, before time is.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import duckdb
import numpy as np
import polars as pl

from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market
from vprism_pipelines.settings import Settings
from vprism_pipelines.tables import GOLDEN_BARS
from vprism_pipelines.warehouse import across, analytics
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.indicator_tables import LOGICAL, TABLES

US = market("us")
STAGES = {"indicators (build_daily)": analytics.build_daily, "across symbols (build_market)": across.build_market}


def history(symbols: int, sessions: int) -> pl.DataFrame:
    """Golden bars of a market of random walks; one bar in fifty was not traded."""
    days = calendar(US.calendar).sessions(date(2000, 1, 3), date(2025, 12, 31))["session"].to_list()[-sessions:]
    rng = np.random.default_rng(7)
    shape = (symbols, sessions)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, shape), axis=1))
    open_ = close * np.exp(rng.normal(0, 0.01, shape))
    volume = rng.integers(100, 1_000_000, shape) * (rng.random(shape) > 0.02)
    volume[-1] = 1_000  # the benchmark always trades
    names = [*(f"US:STOCK:{ticker(n)}" for n in range(symbols - 1)), str(US.benchmark)]
    return golden(
        pl.DataFrame(
            {
                "symbol": np.repeat(names, sessions),
                "session": days * symbols,
                "open": open_.round(2).ravel(),
                "high": (np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, shape)))).round(2).ravel(),
                "low": (np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, shape)))).round(2).ravel(),
                "close": close.round(2).ravel(),
                "volume": volume.ravel(),
                "value": (volume * close).ravel(),
            }
        )
    ).sort("symbol", "session")


def ticker(number: int) -> str:
    """Four letters: AAAA, AAAB, …"""
    return "".join(chr(65 + number // 26**place % 26) for place in (3, 2, 1, 0))


def golden(bars: pl.DataFrame) -> pl.DataFrame:
    """Bars as one provider's golden ones."""
    return GOLDEN_BARS.conform(
        bars.with_columns(
            currency=pl.lit("USD"),
            exchange=pl.lit("NYSE"),
            chosen_provider=pl.lit("one"),
            n_sources=pl.lit(1),
            confidence=pl.lit(0.9),
            price_basis=pl.lit("raw"),
            flags=pl.lit(0),
            known_from=pl.lit(datetime(2026, 1, 1, tzinfo=UTC)),
        )
    )


def add(connection: duckdb.DuckDBPyConnection, bars: pl.DataFrame) -> None:
    """New golden bars, as a build of golden leaves them."""
    connection.register("bars", bars)
    connection.execute("INSERT INTO golden.bars BY NAME SELECT * FROM bars")
    mark_dirty(connection, "SEMI JOIN bars USING (symbol, session)")
    connection.unregister("bars")


def mark_dirty(connection: duckdb.DuckDBPyConnection, which: str = "") -> None:
    connection.execute(
        "INSERT INTO ops.dirty BY NAME SELECT 'analytics' AS stage, symbol, min(session) AS from_session, 1 AS batch"
        f" FROM golden.bars {which} GROUP BY symbol"
    )


def full(connection: duckdb.DuckDBPyConnection) -> None:
    """Nothing is known: everything is to be built."""
    for table in TABLES:
        connection.execute(f"DELETE FROM {table.full_name}")
    connection.execute("DELETE FROM ops.dirty")
    mark_dirty(connection)


def one(_: duckdb.DuckDBPyConnection) -> None:
    """All but the newest session is built already."""


def built(
    connection: duckdb.DuckDBPyConnection, prepare: Callable[[duckdb.DuckDBPyConnection], None], digest: set[str] | None
) -> list[float]:
    """Seconds of each stage; the digest of what stands afterwards, if asked for."""
    connection.begin()
    prepare(connection)
    seconds = []
    for stage in STAGES.values():
        started = time.perf_counter()
        stage(connection, US)
        seconds.append(time.perf_counter() - started)
    if digest is not None:
        digest.add(fingerprint(connection))
    connection.rollback()
    return seconds


def fingerprint(connection: duckdb.DuckDBPyConnection) -> str:
    """Equal only for equal rows; their order does not matter."""
    sums = [
        connection.execute(f"SELECT sum(hash(COLUMNS(*))), count(*) FROM {table.full_name}").fetchone()
        for table in LOGICAL
    ]
    return repr(sums)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--symbols", type=int, default=800)
    parser.add_argument("--sessions", type=int, default=1_260)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    bars = history(asked.symbols, asked.sessions)
    newest = pl.col("session") == bars["session"].max()
    with tempfile.TemporaryDirectory() as folder:
        house = House(Settings(data_dir=Path(folder), duckdb_database=Path(folder) / "vprism.duckdb"))
        with house.warehouse.transaction() as connection:
            connection.register("days", bars.select(pl.col("session").unique()))
            connection.execute(
                "INSERT INTO golden.sessions SELECT 'us', 'NYSE', session, row_number() OVER (ORDER BY session),"
                " session::TIMESTAMPTZ, session::TIMESTAMPTZ, false FROM days"
            )
            add(connection, bars.filter(~newest))
            for stage in STAGES.values():
                stage(connection, US)
        with house.warehouse.connect() as connection:
            add(connection, bars.filter(newest))
            digests: set[str] = set()
            times: dict[str, list[list[float]]] = {"one": [], "full": []}
            for number in range(asked.rounds):
                digest = digests if number == 0 else None
                times["one"].append(built(connection, one, digest))
                times["full"].append(built(connection, full, digest))
    if len(digests) != 1:
        sys.exit("one new session does not equal the full rebuild")
    print(f"{bars.height:,} bars of {asked.symbols:,} symbols, {asked.rounds} interleaved rounds, medians\n")
    print("| stage | one session s | full s | full / one |\n|---|---|---|---|")
    medians = {way: [statistics.median(stage) for stage in zip(*taken, strict=True)] for way, taken in times.items()}
    rows = [*zip(STAGES, medians["one"], medians["full"], strict=True)]
    rows.append(("both", sum(medians["one"]), sum(medians["full"])))
    for name, session, everything in rows:
        print(f"| {name} | {session:.3f} | {everything:.3f} | {everything / session:.0f} |")


if __name__ == "__main__":
    main()
