"""Rules answer for columns as they do for values, and every rule says where it comes from."""

from __future__ import annotations

from datetime import date

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.market import rules
from vprism_pipelines.market.rule_tables import rows

TODAY = date(2024, 5, 6)
VIETNAM = ["HOSE", "HNX", "UPCOM"]


@settings(deadline=None, max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from([*VIETNAM, "CN_MAIN", "STAR", "HKEX", "US", "NOWHERE", None]),
            st.one_of(st.none(), st.dates(date(2000, 1, 1), date(2027, 12, 31))),
            st.one_of(st.none(), st.floats(0.01, 200_000)),
            st.one_of(st.none(), st.integers(1, 8)),
            st.one_of(st.none(), st.integers(0, 40)),
            st.one_of(st.none(), st.booleans()),
        ),
        min_size=1,
        max_size=6,
    )
)
def test_a_column_gets_the_answers_that_its_values_would_get(table: list[tuple[object, ...]]) -> None:
    schema = {
        "venue": pl.String,
        "session": pl.Date,
        "price": pl.Float64,
        "listing_session": pl.Int64,
        "idle_sessions": pl.Int64,
        "st": pl.Boolean,
    }
    frame = pl.DataFrame(table, schema=schema, orient="row")
    venue, session, price = (pl.col(name) for name in ("venue", "session", "price"))
    given_columns = {name: pl.col(name) for name in ("listing_session", "idle_sessions", "st")}
    answers = frame.lazy().select(
        rules.band(venue, session, **given_columns),
        rules.ceiling(venue, session, price, **given_columns),
        rules.floor(venue, session, price, **given_columns),
        rules.tick(venue, session, price),
        rules.lot(venue, session),
        rules.reference_basis(venue, session),
    )
    for row, answer in zip(frame.iter_rows(named=True), answers.collect().iter_rows(named=True), strict=True):
        where = (row["venue"], row["session"])
        extra = {name: row[name] for name in given_columns}
        assert answer == {
            "band": rules.band(*where, **extra),
            "ceiling": rules.ceiling(*where, row["price"], **extra),
            "floor": rules.floor(*where, row["price"], **extra),
            "tick": rules.tick(*where, row["price"]),
            "lot": rules.lot(*where),
            "reference_basis": rules.reference_basis(*where),
        }


def test_answers_keep_their_type_for_empty_and_for_constant_columns() -> None:
    frame = pl.DataFrame(schema={"session": pl.Date, "close": pl.Float64})
    columns = frame.select(
        rules.ceiling("HOSE", pl.col("session"), pl.col("close")),
        rules.lot("HOSE", pl.col("session")),
        rules.on_lattice("HOSE", pl.col("session"), pl.col("close")),
    )
    assert columns.schema == {"ceiling": pl.Float64, "lot": pl.Int64, "on_lattice": pl.Boolean}
    one_day = pl.DataFrame({"close": [10_000.0, 20_000.0]})
    ceilings = one_day.select(rules.ceiling("HOSE", pl.lit(TODAY), pl.col("close"))).to_series()
    assert ceilings.to_list() == [10_700.0, 21_400.0]


@pytest.mark.parametrize("table", ["price_bands", "ticks", "lots", "reference_prices", "free_sessions"])
def test_every_rule_has_a_source_and_rules_of_one_kind_come_in_order_of_date(table: str) -> None:
    kind = [name for name in ("venues", "assets", "regime") if name in rows(table)[0]]
    frame = pl.DataFrame(rows(table))
    assert frame["source"].str.len_chars().min() > 5
    in_order = frame.group_by(kind).agg((pl.col("valid_from").diff().dt.total_days().fill_null(0) >= 0).all())
    assert in_order["valid_from"].all()
