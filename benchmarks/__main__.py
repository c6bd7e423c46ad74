"""`make bench`: vprism beside its peers, the same tasks in one run, as a table and a plot.

    python -m benchmarks [--only factors --only reads] [--rounds 5] [--share 1.0] [--out data/benchmarks]

The peers live in pinned environments that the first run makes in `VPRISM_BENCH_CACHE` (~/.cache/vprism-benchmarks).
Exits with 1 if a side gave another answer than ours, or a bar is missed.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from benchmarks import harness, report
from benchmarks.market import LATER
from benchmarks.races import RACES


def main() -> int:
    keys = [race.key for race in RACES]
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", action="append", choices=keys, help="a race; may be repeated")
    parser.add_argument("--rounds", type=int, default=5, choices=range(1, LATER), metavar="N")
    parser.add_argument("--share", type=float, default=1.0, help="of the symbols of the full size")
    parser.add_argument("--out", type=Path, default=Path("data/benchmarks"))
    given = parser.parse_args()
    outcomes: list[harness.Outcome] = []
    given.out.mkdir(parents=True, exist_ok=True)
    for race in RACES:
        if not given.only or race.key in given.only:
            print(f"{race.key} …", file=sys.stderr, flush=True)
            with tempfile.TemporaryDirectory() as folder:
                outcomes += harness.run(race, given.rounds, given.share, Path(folder))
            (given.out / "benchmarks.md").write_text(report.markdown(outcomes, given.rounds))
            (given.out / "benchmarks.svg").write_text(report.plot(outcomes))
    print((given.out / "benchmarks.md").read_text())
    disagrees = any(result.disagrees for outcome in outcomes for result in outcome.results)
    missed = any(verdict.missed for outcome in outcomes for verdict in outcome.verdicts)
    return int(disagrees or missed)


if __name__ == "__main__":
    sys.exit(main())
