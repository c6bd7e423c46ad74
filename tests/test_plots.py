"""What a user sees: pictures that say what the numbers say, small enough to be kept with every run."""

from __future__ import annotations

import base64
import re
from itertools import product
from pathlib import Path
from xml.etree import ElementTree

import polars as pl
import pytest

from tests import browser
from vprism_pipelines.assets.plots import heat_map, lines, yearly

SVG = "{http://www.w3.org/2000/svg}"
DAYS = [f"2024-{month:02}-{day:02}" for month, day in product(range(1, 7), range(1, 21))]


def drawn(markdown: str) -> ElementTree.Element:
    """The picture in a Markdown text."""
    found = re.search(r"!\[.*?\]\(data:image/svg\+xml;base64,(.*?)\)", markdown)
    assert found
    return ElementTree.fromstring(base64.b64decode(found[1]))


def texts(markdown: str) -> list[str]:
    return [str(text.text) for text in drawn(markdown).iter(f"{SVG}text")]


def cells(states: dict[str, list[str]]) -> pl.DataFrame:
    rows = [(symbol, day, state) for symbol, row in states.items() for day, state in zip(DAYS, row, strict=False)]
    return pl.DataFrame(rows, schema=["symbol", "column", "state"], orient="row")


def covered(markdown: str, color: str) -> float:
    """Length of everything drawn in a colour below the legend, in cells."""
    step = 664 // len(DAYS)
    paths = [path for path in drawn(markdown).findall(f"{SVG}path") if path.get("stroke") == color]
    return sum(float(length) for path in paths for length in re.findall(r"h([\d.]+)", str(path.get("d")))) / step


def test_every_cell_of_a_heat_map_has_the_colour_of_its_state() -> None:
    row = ["present"] * 90 + ["bad"] * 2 + ["flagged"] * 8 + ["unexpected"] * 20
    picture = heat_map(cells({"VN:STOCK:FPT": row, "VN:STOCK:HPG": row[::-1]}), "Vietnam")
    lengths = {color: covered(picture, color) for color in ("#7cb798", "#c8553d", "#f0c04a", "#ececec")}
    assert lengths == pytest.approx({"#7cb798": 180, "#c8553d": 4, "#f0c04a": 16, "#ececec": 40}, abs=1e-9)


def test_a_heat_map_names_its_symbols_months_and_colours() -> None:
    named = texts(heat_map(cells({"VN:STOCK:FPT": ["present"] * 120}), "Vietnam <1>"))
    assert {"FPT", "Vietnam <1>", "2024-01", "2024-06", "missing or quarantined", "not expected"} <= set(named)


def test_sixty_symbols_over_a_hundred_and_twenty_sessions_are_some_kilobytes() -> None:
    calm = {f"VN:STOCK:A{n}": ["present"] * n + ["bad"] + ["present"] * (119 - n) for n in range(60)}
    assert len(heat_map(cells(calm), "calm")) < 15_000
    noisy = {f"VN:STOCK:A{n}": ["present", "bad"] * 60 for n in range(60)}
    assert len(heat_map(cells(noisy), "noisy")) < 140_000


def test_a_trend_tells_its_range_and_its_series() -> None:
    picture = lines({"kbs": {"2024-01": 0.5, "2024-02": 0.25}, "vci & co": {"2024-02": 1.0}}, "gaps", percent=True)
    assert {"gaps", "kbs", "vci & co", "100.00%", "25.00%", "2024-01"} <= set(texts(picture))


def test_nothing_is_said_to_be_nothing() -> None:
    assert heat_map(cells({}).cast(pl.String), "none") == "_nothing to show_"
    assert lines({"one": {"2024-01": 1.0}}, "gaps") == lines({}, "gaps") == "_not enough points_"
    assert yearly(pl.DataFrame(schema={"year": pl.Int64, "accepted": pl.Int64, "quarantined": pl.Int64})) == "_no rows_"


@pytest.mark.browser
def test_a_browser_draws_the_heat_map_in_its_colours(tmp_path: Path) -> None:
    program = browser.find()
    if program is None:
        pytest.skip("needs a Chromium")
    source = str(re.search(r"\((data:.*)\)", heat_map(cells({"VN:STOCK:FPT": ["bad"] * 120}), "Vietnam")).group(1))  # type: ignore[union-attr]
    page = tmp_path / "page.html"
    page.write_text(f'<body style="margin:0"><img id="map" src="{source}"><canvas id="c"></canvas></body>')
    tab = browser.Browser(program, tmp_path / "profile")
    try:
        tab.open(page.as_uri())
        tab.wait_for("document.getElementById('map').complete && document.getElementById('map').naturalWidth > 0")
        pixel = tab.evaluate(
            "(() => { const c = document.getElementById('c'), m = document.getElementById('map');"
            " c.width = m.naturalWidth; c.height = m.naturalHeight; const x = c.getContext('2d');"
            " x.drawImage(m, 0, 0); return Array.from(x.getImageData(300, 46, 1, 1).data).slice(0, 3).join() })()"
        )
    finally:
        tab.close()
    assert pixel == "200,85,61"
