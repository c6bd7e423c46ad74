"""The races as data: who takes part, with what, and what must hold."""

from __future__ import annotations

from pathlib import Path

from benchmarks import market
from benchmarks.harness import Bar, Race, Runner, Task

FLOAT32 = 1e-5  # a difference of numbers kept in 32 bits
RUNNING = 1e-7  # running sums keep the rounding of all they ever dropped
MILLS = 1e-6  # of prices kept in thousandths


def _factor_market(folder: Path, share: float) -> str:
    return market.write(folder, max(int(800 * share), 4), 3_500)


FACTORS = Race(
    "factors",
    _factor_market,
    {"qlib_factors": "qlib", "pandas_factors": "pandas"},
    (
        Task(
            "14 factors of all sessions",
            (
                Runner("vprism: stored", "vprism_factors", "stored"),
                Runner("vprism: the 14 columns computed", "vprism_factors", "computed"),
                Runner("vprism: all columns computed", "vprism_factors", "all_computed"),
                Runner("Qlib, no caches", "qlib_factors", "factors", FLOAT32),
                Runner("pandas script", "pandas_factors", "factors", RUNNING),
                Runner("polars script", "polars_factors", "factors", RUNNING),
            ),
            (
                Bar("vprism: stored", "Qlib, no caches", 1 / 4),
                Bar("vprism: the 14 columns computed", "Qlib, no caches", 1 / 4),
                Bar("vprism: stored", "polars script", 1 / 1.3),
            ),
        ),
        Task(
            "one more session, factors included",
            (
                Runner("vprism: one session", "vprism_factors", "one_day"),
                Runner("vprism: everything anew", "vprism_factors", "everything"),
                Runner("Qlib: dump_update, factors of the day", "qlib_factors", "one_day", FLOAT32),
            ),
            (Bar("vprism: one session", "vprism: everything anew", 1 / 40),),
        ),
    ),
)


def _append_market(folder: Path, share: float) -> str:
    return market.write(folder, max(int(1_600 * share), 4), 1_250)


APPEND = Race(
    "append",
    _append_market,
    {"arcticdb_bars": "arcticdb"},
    (
        Task(
            "append one market day",
            (
                Runner("vprism: ledger", "vprism_append", "append"),
                Runner("DuckDB: plain insert", "duckdb_bars", "append"),
                Runner("ArcticDB: an item a symbol", "arcticdb_bars", "append"),
                Runner("ArcticDB: one item", "arcticdb_bars", "append_at_once"),
            ),
            (Bar("vprism: ledger", "DuckDB: plain insert", 2.0),),
        ),
    ),
)


def _reads(title: str, method: str, *more: Runner) -> Task:
    """A read through the library, which must be nearly as fast as DuckDB alone."""
    return Task(
        title,
        (
            Runner("vprism: sql", "vprism_reads", method),
            *more,
            Runner("DuckDB: plain table", "duckdb_bars", method),
            Runner("ArcticDB", "arcticdb_bars", method),
            Runner("parquet, polars", "parquet_reads", method),
        ),
        tuple(Bar(name, "DuckDB: plain table", 1.2) for name in ("vprism: sql", *(runner.name for runner in more))),
    )


READS = Race(
    "reads",
    _factor_market,
    {"arcticdb_bars": "arcticdb"},
    (
        _reads(
            f"{market.READ} symbols, one by one",
            "one_symbol",
            Runner("vprism: bars()", "vprism_reads", "one_symbol_adjusted"),
        ),
        _reads(f"{market.READ} days, one by one", "one_day"),
        _reads("everything", "everything"),
    ),
)


def _indicator_market(folder: Path, share: float) -> str:
    return market.write(folder, max(int(60 * share), 4), 2_500)


INDICATORS = Race(
    "indicators",
    _indicator_market,
    {f"{name}_indicators": "indicators" for name in ("talib", "polars_talib", "ta")},
    (
        Task(
            "indicators, seconds a column",
            (
                Runner("vprism", "vprism_indicators", "indicators"),
                Runner("TA-Lib", "talib_indicators", "indicators"),
                Runner("polars-talib", "polars_talib_indicators", "indicators"),
                Runner("ta", "ta_indicators", "indicators"),
            ),
            (Bar("vprism", "polars-talib", 1.2),),
            per_column=True,
        ),
    ),
)


def _files(folder: Path, share: float) -> str:
    """The market as one CSV file, and as a folder of them."""
    import polars as pl

    described = market.write(folder, max(int(100 * share), 4), 2_500)
    bars = pl.read_parquet(folder / "bars.parquet").select(
        pl.col("symbol").str.split(":").list.last(),
        pl.col("session").alias("date"),
        *("open", "high", "low", "close", "volume"),
    )
    bars.write_csv(folder / "bars.csv")
    (folder / "daily").mkdir()
    for (symbol,), rows in bars.group_by("symbol"):
        rows.drop("symbol").write_csv(folder / "daily" / f"{symbol}.csv")
    return described


INGESTION = Race(
    "ingestion",
    _files,
    {"zipline_ingest": "zipline"},
    (
        Task(
            "CSV files into the store",
            (
                Runner("vprism: one file", "vprism_ingest", "one_file"),
                Runner("vprism: a file a symbol", "vprism_ingest", "many_files"),
                Runner("zipline csvdir: a file a symbol", "zipline_ingest", "ingest", MILLS),
            ),
        ),
    ),
)
AS_OF = Race(
    "as-of",
    lambda _folder, _share: "2,100,034 versions of 2 million bars",
    {},
    tuple(
        Task(
            f"one {what} as of an instant",
            (
                Runner("vprism: as of now", "vprism_as_of", f"as_of_{what}"),
                Runner("plain", "vprism_as_of", f"plain_{what}"),
            ),
            (Bar("vprism: as of now", "plain", 1.25),),
        )
        for what in ("day", "symbol")
    ),
)
PUBLISHING = Race(
    "publishing",
    _append_market,
    {},
    (
        Task(
            "publish a snapshot",
            (
                Runner("vprism: publish", "vprism_publish", "publish"),
                Runner("copy of the file", "vprism_publish", "copy"),
            ),
        ),
    ),
)
RACES = (FACTORS, APPEND, READS, AS_OF, INDICATORS, INGESTION, PUBLISHING)
