"""A side of a race as a process that stays up: imports and preparation are never part of what is timed.

    python worker.py SIDE.py DATA OWN

makes `Side(DATA, OWN)` of the file and obeys lines of JSON on stdin, one answer a line on stdout ({"error": …} if it
cannot):

    {"time": "name", "round": n}        seconds of `side.name(n)`, and of all cores together (`cpu`);
                                        `side.before_name(n)` runs untimed before it
    {"answer": "name", "path": path}    what it gave, as parquet: `side.answer_name()`, or what the last call returned

Nothing but the standard library is imported here: it runs in every peer's environment.
"""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import sys
import time
from pathlib import Path
from typing import Any


def load(script: Path, data: Path, own: Path) -> Any:
    specification = importlib.util.spec_from_file_location(script.stem, script)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    sys.modules[script.stem] = module  # what is pickled for other processes must be found again
    specification.loader.exec_module(module)
    return module.Side(data, own)


def timed(side: Any, name: str, number: int) -> tuple[dict[str, float], Any]:
    """Seconds of one call, on the clock and of all cores together, and what it returned."""
    before = getattr(side, f"before_{name}", None)
    if before is not None:
        before(number)
    call = getattr(side, name)
    gc.collect()
    busy, started = sum(os.times()[:4]), time.perf_counter()
    returned = call(number)
    seconds = time.perf_counter() - started
    return {"seconds": seconds, "cpu": sum(os.times()[:4]) - busy}, returned


def save(frame: Any, path: str) -> None:
    """A polars or a pandas frame as parquet."""
    if hasattr(frame, "write_parquet"):
        frame.write_parquet(path)
    else:
        frame.to_parquet(path, index=False)


def obey(side: Any, order: dict[str, Any], returned: dict[str, Any]) -> dict[str, Any]:
    """Carry out one order; `returned` keeps what a call gave until it is asked for or the call is repeated."""
    if name := order.get("time"):
        returned.pop(name, None)
        told, returned[name] = timed(side, name, order["round"])
        return told
    name = order["answer"]
    answer = getattr(side, f"answer_{name}", None)
    save(returned[name] if answer is None else answer(), order["path"])
    returned.clear()
    return {}


def main(script: Path, data: Path, own: Path) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # whatever a library prints must not look like an answer
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    side = load(script, data, own)
    answers.write("{}\n")
    returned: dict[str, Any] = {}
    for line in sys.stdin:
        try:
            told = obey(side, json.loads(line), returned)
        except Exception as error:
            told = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(told) + "\n")


if __name__ == "__main__":
    main(*(Path(argument).resolve() for argument in sys.argv[1:4]))
