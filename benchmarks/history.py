"""`python -m benchmarks.history`: the full graph on a whole history, stage by stage, against what the disk alone takes.

    python -m benchmarks.history prices.parquet=my_mapping closes.parquet=other.toml
    python -m benchmarks.history --rows 1000000       # a simulated exchange

Each file goes with its mapping, a name of a shipped one or a TOML file; all of one market. `--keep` leaves the
installation in a folder: `benchmarks.daily` adds one session to it.
"""

from __future__ import annotations

import argparse
import os
import tempfile
from contextlib import ExitStack
from pathlib import Path

from benchmarks.bulk import Meter, bars_in, installation, limits, load, simulated, table
from vprism_pipelines.providers.files import Mapping


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("files", nargs="*", metavar="FILE=MAPPING")
    parser.add_argument("--rows", type=int, default=1_000_000, help="simulated bars, where no file is named")
    parser.add_argument("--keep", type=Path, help="folder for the installation; default: a temporary one")
    asked = parser.parse_args()
    with ExitStack() as stack:
        folder = asked.keep or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.mkdir(parents=True, exist_ok=True)
        named = [text.rsplit("=", 1) for text in asked.files]
        files = [(Path(path), Mapping.load(mapping)) for path, mapping in named] or simulated(folder, asked.rows)
        house, meter = installation(folder), Meter()
        load(house, files, meter)
        stages = [part for part in meter.spent if not part.stage.startswith("–")]
        print(f"{bars_in(house):,} bars in the ledger, {os.cpu_count()} cores, load {os.getloadavg()[1]:.1f}\n")
        print(table([*meter.spent, *limits(house)]))
        print(f"\n{sum(part.wall for part in stages):.1f} s in all, peak {meter.peak:.2f} GB")


if __name__ == "__main__":
    main()
