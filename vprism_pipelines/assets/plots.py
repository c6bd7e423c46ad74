"""Small pictures in Markdown: SVG drawn from a few numbers, shown by the UI without any extra service."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from itertools import groupby
from xml.sax.saxutils import escape

import polars as pl

_ACCEPTED, _REJECTED, _INK, _GRID = "#2f7d5b", "#c8553d", "#555", "#e4e4e4"
_SERIES = ("#2f7d5b", "#3b6fb5", "#c8803d", "#8a5fb0", "#c8553d", "#4d9aa8")
_STATES = {
    "present": ("#7cb798", "there"),
    "flagged": ("#f0c04a", "flagged"),
    "bad": ("#c8553d", "missing or quarantined"),
    "unexpected": ("#ececec", "not expected"),
}
_WIDTH, _LEFT, _CELL = 760, 96, 10


def yearly(rows: pl.DataFrame) -> str:
    """Rows by year as a bar chart in Markdown.

    Args:
        rows: year, accepted, quarantined.
    """
    if rows.is_empty():
        return "_no rows_"
    bars = {str(year): (good, bad) for year, good, bad in rows.sort("year").iter_rows()}
    return f"![accepted and quarantined rows by year]({_data_uri(_stacked(bars))})\n\n" + "\n".join(
        f"- {year}: {counts[0]:,} accepted, {counts[1]:,} quarantined" for year, counts in bars.items() if counts[1]
    )


def lines(series: Mapping[str, Mapping[str, float]], title: str, *, percent: bool = False) -> str:
    """Trends as a line chart in Markdown.

    Args:
        series: Name -> label of the position -> value. Positions are all labels, sorted.
        title: What is shown.
        percent: Write the values as percent.
    """
    labels = sorted({label for points in series.values() for label in points})
    values = [value for points in series.values() for value in points.values()]
    if len(labels) < 2:
        return "_not enough points_"
    low, high = min(values), max(values)
    place = {label: _LEFT + n * (_WIDTH - _LEFT - 10) / (len(labels) - 1) for n, label in enumerate(labels)}
    scale = 100 / (high - low or 1)

    def said(value: float) -> str:
        return f"{value:.2%}" if percent else f"{value:.4g}"

    shapes = [
        f'<path stroke="{_GRID}" d="M{_LEFT} {y}H{_WIDTH - 10}"/>'
        f'<text x="{_LEFT - 6}" y="{y + 4}" text-anchor="end" fill="{_INK}">{said(value)}</text>'
        for y, value in ((30, high), (80, (high + low) / 2), (130, low))
        if value != low or y == 130
    ]
    named = _LEFT + len(title) * 7 + 24
    for number, (name, points) in enumerate(series.items()):
        color = _SERIES[number % len(_SERIES)]
        path = " ".join(f"{place[label]:.1f},{130 - (points[label] - low) * scale:.1f}" for label in sorted(points))
        shapes.append(f'<polyline fill="none" stroke="{color}" stroke-width="1.6" points="{path}"/>')
        shapes.append(f'<text x="{named}" y="14" fill="{color}">{escape(name)}</text>')
        named += len(name) * 7 + 16
    svg = (
        f'<text x="{_LEFT}" y="14" fill="{_INK}">{escape(title)}</text>{"".join(shapes)}'
        f'<g fill="{_INK}">{_dates(labels, (_WIDTH - _LEFT - 10) / (len(labels) - 1), 148)}</g>'
    )
    return f"![{title}]({_data_uri(_svg(_WIDTH, 156, svg))})"


def heat_map(cells: pl.DataFrame, title: str) -> str:
    """A row of coloured cells per symbol, in Markdown: green there, yellow flagged, red bad, grey not expected.

    Args:
        cells: symbol, column, state (`present`, `flagged`, `bad`, `unexpected`); symbols in the order in which they are
            drawn, columns in the order of their text. One row for every symbol and column.
        title: What is shown.
    """
    if cells.is_empty():
        return "_nothing to show_"
    symbols = cells["symbol"].unique(maintain_order=True).to_list()
    columns = cells["column"].unique().sort().to_list()
    step = max(4, min(14, (_WIDTH - _LEFT) // len(columns)))
    at = {column: number for number, column in enumerate(columns)}
    # One path per state, one stroke per run of equal cells: sixty symbols of a calm market are a few kilobytes.
    strokes: dict[str, list[str]] = {state: [] for state in _STATES}
    states = {symbol: dict.fromkeys(columns, "unexpected") for symbol in symbols}
    for symbol, column, state in cells.select("symbol", "column", "state").iter_rows():
        states[symbol][column] = state
    for row, symbol in enumerate(symbols):
        y = 46 + row * _CELL
        for state, run in groupby(columns, key=states[symbol].__getitem__):
            covered = [at[column] for column in run]
            strokes[state].append(f"M{_LEFT + covered[0] * step} {y}h{len(covered) * step}")
    drawn = "".join(
        f'<path stroke="{_STATES[state][0]}" stroke-width="{_CELL - 1.5}" d="{"".join(parts)}"/>'
        for state, parts in strokes.items()
        if parts
    )
    names = "".join(
        f'<text x="{_LEFT - 6}" y="{49.5 + row * _CELL}" text-anchor="end">{escape(symbol.split(":")[-1])}</text>'
        for row, symbol in enumerate(symbols)
    )
    width = _LEFT + len(columns) * step + 10
    svg = (
        f'<text x="{_LEFT}" y="12">{escape(title)}</text>{_legend()}'
        f'<g font-size="9">{names}{_dates(columns, step, 46 + len(symbols) * _CELL + 6)}</g>'
    )
    height = 46 + len(symbols) * _CELL + 14
    picture = _svg(max(width, 560), height, f'{drawn}<g fill="{_INK}">{svg}</g>')
    return f"![{title}]({_data_uri(picture)})"


def _legend() -> str:
    parts, x = [], _LEFT
    for color, meaning in _STATES.values():
        parts.append(
            f'<path stroke="{color}" stroke-width="9" d="M{x} 27h9"/><text x="{x + 14}" y="31">{meaning}</text>'
        )
        x += 14 + len(meaning) * 7 + 16
    return "".join(parts)


def _dates(columns: list[str], step: float, y: float) -> str:
    """The first column of every month, or of every year where there are many, as far apart as their text is wide."""
    shown, free = [], 0.0
    length = len("2024-01") if len({column[:7] for column in columns}) <= 24 else len("2024")
    for number, column in enumerate(columns):
        label = column[:length]
        x = _LEFT + number * step
        changes = number == 0 or columns[number - 1][:length] != label
        if changes and x >= free:
            shown.append(f'<text x="{x:.1f}" y="{y}">{label}</text>')
            free = x + len(label) * 5.5 + 8
    return "".join(shown)


def _stacked(bars: Mapping[str, tuple[int, int]]) -> str:
    top = max(sum(counts) for counts in bars.values())
    width = max(6, min(40, 640 // len(bars)))
    shapes = []
    for position, (label, (good, bad)) in enumerate(bars.items()):
        x = 40 + position * width
        # Every rejected row must be visible, however few there are.
        high, red = 100 * good / top, max(2.0, 100 * bad / top) if bad else 0.0
        shapes.append(
            f'<rect x="{x}" y="{120 - high:.1f}" width="{width - 2}" height="{high:.1f}" fill="{_ACCEPTED}"/>'
        )
        shapes.append(
            f'<rect x="{x}" y="{120 - high - red:.1f}" width="{width - 2}" height="{red:.1f}" fill="{_REJECTED}"/>'
        )
        if position % max(1, len(bars) // 8) == 0:
            shapes.append(f'<text x="{x}" y="135" fill="{_INK}">{label}</text>')
    shapes.append(f'<text x="0" y="24" fill="{_INK}">{top:,}</text>')
    return _svg(60 + width * len(bars), 150, "".join(shapes))


def _svg(width: float, height: float, content: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        f' font-family="sans-serif" font-size="11">{content}</svg>'
    )


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
