"""`python -m benchmarks.explain [cells]`: explains random golden numbers to the bytes, and what each of them costs.

The bundled US history and a year of both simulated vendors, in a folder of its own; ends with an error if any number
does not lead to bytes that are proven.
"""

from __future__ import annotations

import random
import sys
import tempfile
import time
from collections import Counter
from datetime import date
from pathlib import Path

from vprism_pipelines.market.spec import US, VN
from vprism_pipelines.serving.explain import NUMBERS, Cell, Explainer
from vprism_pipelines.serving.library import Library
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.acquire import acquire
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.rebuild import replay

CELLS, SEED = 1_000, 1
SIMULATED = (date(2024, 1, 2), date(2024, 12, 31))


def filled(folder: Path) -> House:
    """A published warehouse of what needs no network."""
    house = House(Settings(_env_file=None, data_dir=folder, duckdb_database=folder / "vprism.duckdb", universe={}))  # type: ignore[call-arg]
    span = house.parser("sample").capabilities().span
    assert span is not None
    acquire(house, US, "sample", span, "bench")
    for provider in ("simulated", "simulated_b"):
        acquire(house, VN, provider, SIMULATED, "bench")
    replay(house)
    return house


def drawn(house: House, count: int) -> list[Cell]:
    """Random numbers of golden, as many of one market as of the other."""
    cells = []
    for prefix in (US.prefix, VN.prefix):
        rows = house.reader.query(
            "FROM golden.bars WHERE starts_with(symbol, ?) ORDER BY ALL", [f"{prefix}:"]
        ).to_dicts()
        there = [(row["symbol"], row["session"], name) for row in rows for name in NUMBERS if row[name] is not None]
        cells += [Cell(*there[at]) for at in random.Random(SEED).sample(range(len(there)), count // 2)]
    return cells


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else CELLS
    with tempfile.TemporaryDirectory() as folder:
        house = filled(Path(folder))
        cells = drawn(house, count)
        explainer = Explainer(Library(house.reader, house.clock), house.lake, house.clock)
        started = time.perf_counter()
        told = explainer.explain(cells)
        seconds = time.perf_counter() - started
    proven = [each for each in told if each.places and each.source and each.source.verified and each.cleaning]
    agreeing = sum(each.cleaning.agrees for each in proven if each.cleaning)
    print(f"{len(told):,} cells, {len(proven):,} to proven bytes, {agreeing:,} cleaned as the ledger holds them")
    shares = dict(Counter(each.chosen for each in told))
    print(f"{seconds:.1f} s, {1_000 * seconds / len(told):.0f} ms a cell; by provider: {shares}")
    if len(proven) < len(told):
        sys.exit(1)


if __name__ == "__main__":
    main()
