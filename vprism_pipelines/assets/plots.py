"""Small pictures in Markdown: SVG drawn from a few numbers, shown by the UI without any extra service."""

from __future__ import annotations

import base64
from collections.abc import Mapping

import polars as pl

_ACCEPTED, _REJECTED, _INK = "#2f7d5b", "#c8553d", "#555"


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


def line(values: Mapping[str, float], title: str) -> str:
    """A trend as a line chart in Markdown."""
    if len(values) < 2:
        return "_not enough points_"
    points = list(values.values())
    low, high = min(points), max(points)
    scale = 100 / (high - low or 1)
    step = 600 / (len(points) - 1)
    path = " ".join(f"{40 + i * step:.1f},{120 - (value - low) * scale:.1f}" for i, value in enumerate(points))
    first, last = next(iter(values)), list(values)[-1]
    svg = (
        '<svg xmlns="http://www.w3.org/2000/svg" width="660" height="150" font-family="sans-serif" font-size="11">'
        f'<polyline fill="none" stroke="{_ACCEPTED}" stroke-width="1.5" points="{path}"/>'
        f'<g fill="{_INK}"><text x="40" y="12">{title}</text><text x="0" y="122">{low:.4g}</text>'
        f'<text x="0" y="24">{high:.4g}</text><text x="40" y="140">{first}</text>'
        f'<text x="640" y="140" text-anchor="end">{last}</text></g></svg>'
    )
    return f"![{title}]({_data_uri(svg)})"


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
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{60 + width * len(bars)}" height="150"'
        f' font-family="sans-serif" font-size="11">{"".join(shapes)}'
        f'<text x="0" y="24" fill="{_INK}">{top:,}</text></svg>'
    )


def _data_uri(svg: str) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.encode()).decode()
