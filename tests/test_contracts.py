"""What pandera says of a table and the fast answer are the same answer, whatever stands in it."""

from __future__ import annotations

from datetime import date
from typing import Any

import pandera.errors
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from vprism_pipelines.quality.contracts import contract, holds
from vprism_pipelines.quality.order import repeats
from vprism_pipelines.tables import GOLDEN_BARS

NUMBERS = [None, float("nan"), float("inf"), -1.0, 0.0, 1.0, 2.0]
VALUES: dict[str, list[Any]] = {
    "symbol": ["US:STOCK:A", "US:STOCK:B", "A", "", None],
    "session": [date(2024, 1, 2), date(2024, 1, 3), None],
    **dict.fromkeys(("open", "high", "low", "close", "value", "confidence"), NUMBERS),
    "volume": [None, -1, 0, 7],
    "currency": ["USD", "usd", None],
}
SOUND: dict[str, Any] = {
    "symbol": "US:STOCK:A", "session": date(2024, 1, 2), "open": 1.0, "high": 2.0, "low": 1.0, "close": 2.0,
    "volume": 7, "value": 1.0, "confidence": 1.0, "currency": "USD", "flags": 0, "n_sources": 1,
    "chosen_provider": "one", "price_basis": "raw", "exchange": None, "known_from": None,
}  # fmt: skip
CHANGES = st.dictionaries(st.sampled_from(sorted(VALUES)), st.integers(0, 6), max_size=2)


def golden(changes: list[dict[str, int]]) -> pl.DataFrame:
    """One sound bar per entry, on a session of its own, but for what is changed."""
    rows = [
        SOUND | {"session": date(2024, 2, 1 + number)}
        | {name: VALUES[name][at % len(VALUES[name])] for name, at in change.items()}
        for number, change in enumerate(changes)
    ]  # fmt: skip
    frame = pl.DataFrame(rows, schema_overrides=GOLDEN_BARS.polars_schema, infer_schema_length=None)
    return GOLDEN_BARS.conform(frame.with_columns(known_from=pl.lit(date(2024, 3, 1)).cast(pl.Datetime("us", "UTC"))))


@given(st.lists(CHANGES, min_size=1, max_size=4), st.booleans())
def test_the_fast_answer_is_panderas_answer(changes: list[dict[str, int]], backwards: bool) -> None:
    frame = golden(changes)
    frame = frame.reverse() if backwards else frame
    try:
        contract(GOLDEN_BARS).validate(frame, lazy=True)
    except pandera.errors.SchemaErrors:
        assert not holds(GOLDEN_BARS, frame)
    else:
        assert holds(GOLDEN_BARS, frame)


def test_a_column_that_is_missing_too_many_or_of_another_type_breaks_the_contract() -> None:
    frame = golden([{}])
    assert holds(GOLDEN_BARS, frame)
    for other in (frame.drop("flags"), frame.with_columns(more=1), frame.with_columns(pl.col("flags").cast(pl.Int64))):
        assert not holds(GOLDEN_BARS, other)


@pytest.mark.parametrize("seed", range(5))
def test_a_key_that_is_there_twice_is_found_in_any_order(seed: int) -> None:
    frame = pl.DataFrame({"a": [1, 1, 2, 2], "b": [1, 2, 1, None]})
    assert not repeats(frame.sample(fraction=1.0, shuffle=True, seed=seed), ["a", "b"])
    twice = pl.concat([frame, frame[:1]]).sample(fraction=1.0, shuffle=True, seed=seed)
    assert repeats(twice, ["a", "b"])
    assert repeats(twice.sort("a", "b"), ["a", "b"])
