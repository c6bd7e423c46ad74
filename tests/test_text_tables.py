"""What parsers can rely on when cells arrive as text: dates and finite numbers, or a refusal."""

from __future__ import annotations

import json
from datetime import date, timedelta

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.provider_kit import payload
from vprism_pipelines.errors import Malformed
from vprism_pipelines.providers.text_tables import dates, declared_events, numbers, require_daily, script_json

WORDS = st.text("abcdefghijklmnopqrstuvwxyz_$.", min_size=1, max_size=12)


@given(values=st.lists(st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(10**15), 10**15) | st.none()))
def test_numbers_survive_as_numbers_and_as_text(values: list[float | None]) -> None:
    expected = [None if value is None else float(value) for value in values]
    assert numbers(values, "x").to_list() == expected
    assert numbers(["" if value is None else f" {value!r} " for value in values], "x").to_list() == expected


@pytest.mark.parametrize("odd", ["nan", "inf", "-inf", "1e999", "1,000", "x", True, [1], {}])
def test_one_odd_cell_among_good_ones_refuses_the_column(odd: object) -> None:
    with pytest.raises(Malformed):
        numbers(["1.5", odd, "2.5"], "x")


@given(values=st.lists(st.dates(date(1700, 1, 1), date(2200, 1, 1)), min_size=1))
def test_dates_survive_as_text(values: list[date]) -> None:
    assert dates([value.isoformat() for value in values], "d").to_list() == values


@pytest.mark.parametrize("odd", ["2024-02-30", "2024-01-02 10:00:00", "20240102", "1699-12-31", "2200-01-02", "", 5])
def test_one_odd_date_among_good_ones_refuses_the_column(odd: object) -> None:
    with pytest.raises(Malformed):
        dates(["2024-01-02", odd, "2024-01-03"], "d")


@given(first=st.dates(date(1990, 1, 1), date(2030, 1, 1)), step=st.integers(1, 31), count=st.integers(4, 20))
def test_four_bars_or_more_are_daily_if_any_two_are_close(first: date, step: int, count: int) -> None:
    days = [first + timedelta(days=step * place) for place in range(count)]
    if step < 5:
        require_daily(pl.Series(days))
        return
    with pytest.raises(Malformed):
        require_daily(pl.Series(days))
    require_daily(pl.Series([*days, days[-1] + timedelta(days=1)]))
    require_daily(pl.Series(days[:3]))


@given(name=WORDS, value=st.lists(st.integers(0, 9) | WORDS) | st.dictionaries(WORDS, st.integers(0, 9)))
def test_json_is_the_same_in_every_wrapping(name: str, value: object) -> None:
    text = json.dumps(value)
    for body in (
        text,
        f"{name}({text});",
        f"var {name}={text}",
        f"/* a */\n{name} = ({text});\n",
        f"{name}={text}\n/* b */",
    ):
        assert script_json(payload("sina", body)) == value


def test_events_keep_the_rows_they_stand_on_and_never_share_one() -> None:
    bars = pl.DataFrame(
        {
            "row": [0, 1, 2],
            "raw_symbol": ["A"] * 3,
            "session": [date(2024, 1, 4), date(2024, 1, 3), date(2024, 1, 2)],
            "dividend": [0.5, 0.0, None],
            "split": [2.0, 1.0, 0.1],
        }
    )
    assert declared_events(bars).select("row", "event_type", "cash", "split_ratio").rows() == [
        (2, "split", 0.0, 0.1),
        (0, "cash", 0.5, 1.0),
        (3, "split", 0.0, 2.0),
    ]
    with pytest.raises(Malformed):
        declared_events(bars.with_columns(split=pl.lit(0.0)))
