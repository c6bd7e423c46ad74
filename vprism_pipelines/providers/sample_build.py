"""Builds the bundled sample from the table `stocks` of the package bokeh_sampledata; needs no network.

python -m vprism_pipelines.providers.sample_build path/to/stocks.csv.gz data/sample/us_wiki5.parquet
"""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path

import polars as pl

from vprism_pipelines.errors import InvalidInput

SOURCE_SHA256 = "5abadf99b2d394f920120a27de6f0df129859d71d4cfb0bf661bcc99446ab1fd"
"""Of stocks.csv.gz in the wheel bokeh_sampledata 2026.1."""


def build(source: Path, target: Path) -> pl.DataFrame:
    """Write the sample as parquet, values and column names as the source has them, by symbol and date.

    Raises:
        InvalidInput: `source` is not the file the sample is defined by.
    """
    found = hashlib.sha256(source.read_bytes()).hexdigest()
    if found != SOURCE_SHA256:
        raise InvalidInput(
            f"{source} is not the table the sample is made of",
            hint="take _data/stocks.csv.gz out of the wheel bokeh_sampledata 2026.1",
            sha256=found,
        )
    table = (
        pl.read_csv(source, schema_overrides={"Date": pl.Date, "Volume": pl.Int64})
        .rename({"Ticker": "symbol", "Date": "date"})
        .sort("symbol", "date")
    )
    target.parent.mkdir(parents=True, exist_ok=True)
    table.write_parquet(target, compression="zstd", compression_level=22)
    return table


def main() -> None:
    """Command line: source, target."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("source", type=Path, help="stocks.csv.gz of bokeh_sampledata 2026.1")
    parser.add_argument("target", type=Path, help="parquet to write")
    arguments = parser.parse_args()
    table = build(arguments.source, arguments.target)
    digest = hashlib.sha256(arguments.target.read_bytes()).hexdigest()
    print(f"{table.height} rows, sha256 {digest}")


if __name__ == "__main__":
    main()
