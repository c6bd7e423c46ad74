"""What a run showed: a table in Markdown and a plot."""

from __future__ import annotations

import math
import os
import platform
import statistics
from collections.abc import Sequence
from xml.sax.saxutils import escape

from benchmarks.harness import Outcome, Result, Verdict

_OURS, _THEIRS, _INK, _GRID = "#2f7d5b", "#9fb4c7", "#555", "#e4e4e4"
_WIDTH, _LEFT, _RIGHT, _ROW = 860, 300, 110, 20


def markdown(outcomes: Sequence[Outcome], rounds: int) -> str:
    """The table of all tasks, then what had to hold and whether it did."""
    lines = [
        f"{rounds} rounds in turns; seconds are medians; {os.cpu_count()} cores, Python {platform.python_version()},"
        f" load {os.getloadavg()[1]:.1f} at the end.",
        "",
        "| task | who | seconds | fastest to slowest | of ours | CPU seconds | answer |",
        "|---|---|---:|---|---:|---:|---|",
    ]
    for outcome in outcomes:
        title = f"**{outcome.task.title}**, {outcome.data}" if outcome.data else f"**{outcome.task.title}**"
        for number, result in enumerate(outcome.results):
            lines.append(f"| {title if number == 0 else ''} | {_row(outcome, result)} |")
    lines += ["", "| must hold | at most | measured | |", "|---|---:|---:|---|"]
    lines += [f"| {_verdict(outcome, verdict)} |" for outcome in outcomes for verdict in outcome.verdicts]
    return "\n".join(lines) + "\n"


def _row(outcome: Outcome, result: Result) -> str:
    if result.trouble:
        return f"{result.runner} | – | – | – | – | {result.trouble.replace('|', '/')[:160]}"
    low, high = (seconds / result.columns for seconds in (min(result.seconds), max(result.seconds)))
    ratio = outcome.ratio(result.runner, outcome.ours.runner)
    columns = f" ({result.columns} columns)" if outcome.task.per_column else ""
    times = f"{result.median:.4g} | {low:.4g} to {high:.4g} | {'–' if ratio is None else f'{ratio:.2f}'}"
    cpu = f"{statistics.median(result.cpu) / result.columns:.4g}" if result.cpu else "–"
    return f"{result.runner}{columns} | {times} | {cpu} | {result.agreement}"


def _verdict(outcome: Outcome, verdict: Verdict) -> str:
    bar = verdict.bar
    held = "not measured" if verdict.ratio is None else "**missed**" if verdict.missed else "holds"
    measured = "–" if verdict.ratio is None else f"{verdict.ratio:.3f}"
    return f"{outcome.task.title}: {bar.runner} / {bar.other} | {bar.most:.3f} | {measured} | {held}"


def plot(outcomes: Sequence[Outcome]) -> str:
    """Bars of seconds on one logarithmic scale, as SVG; ours are green."""
    timed = [(outcome, [result for result in outcome.results if result.seconds]) for outcome in outcomes]
    medians = [result.median for _, results in timed for result in results]
    if not medians:
        return _svg(_ROW, "")
    low, high = math.floor(math.log10(min(medians))), math.ceil(math.log10(max(medians)))
    scale = (_WIDTH - _LEFT - _RIGHT) / max(high - low, 1)
    shapes, y = [], float(_ROW)
    for outcome, results in timed:
        shapes.append(f'<text x="8" y="{y + 14}" font-weight="bold" fill="{_INK}">{escape(outcome.task.title)}</text>')
        for result in results:
            y += _ROW
            width = max((math.log10(result.median) - low) * scale, 1)
            color = _OURS if result.runner.startswith("vprism") else _THEIRS
            shapes.append(
                f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end" fill="{_INK}">{escape(result.runner)}</text>'
                f'<rect x="{_LEFT}" y="{y + 3}" width="{width:.1f}" height="{_ROW - 6}" fill="{color}"/>'
                f'<text x="{_LEFT + width + 6:.1f}" y="{y + 14}" fill="{_INK}">{result.median:.3g} s</text>'
            )
        y += 1.5 * _ROW
    grid = "".join(
        f'<path stroke="{_GRID}" d="M{x:.1f} {_ROW}V{y}"/>'
        f'<text x="{x:.1f}" y="14" text-anchor="middle" fill="{_INK}">{10.0**power:g} s</text>'
        for power in range(low, high + 1)
        for x in [_LEFT + (power - low) * scale]
    )
    return _svg(y, grid + "".join(shapes))


def _svg(height: float, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" font-family="sans-serif"'
        f' font-size="12"><rect width="100%" height="100%" fill="#fff"/>{content}</svg>\n'
    )
