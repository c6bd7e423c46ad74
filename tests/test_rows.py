"""What a user of the row checks can rely on: every row is accepted or quarantined with its reasons, in our units."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.house import US
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.quality.contracts import violations
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.rows import Cleaned, clean_actions, clean_bars, clean_instruments
from vprism_pipelines.tables import (
    CLEAN_ACTIONS,
    CLEAN_BARS,
    INSTRUMENTS,
    RAW_ACTIONS,
    RAW_BARS,
    RAW_INSTRUMENTS,
    Table,
)

DAY = date(2026, 11, 18)  # a Wednesday; New York closes at 21:00 UTC
FETCHED = datetime(2026, 11, 20, 22, tzinfo=UTC)
BAR = {
    "fetch_id": "f1",
    "row": 0,
    "raw_symbol": "AAPL",
    "session": DAY,
    "open": 10.0,
    "high": 11.0,
    "low": 9.0,
    "close": 10.5,
    "volume": 1000.0,
    "value": None,
    "adj_close": None,
    "currency": "USD",
    "exchange": None,
    "price_basis": "raw",
    "price_unit": 1.0,
    "volume_unit": 1.0,
    "value_unit": 1.0,
    "basis_factor": 1.0,
    "live": False,
}
ACTION = {
    "fetch_id": "f1",
    "row": 0,
    "raw_symbol": "AAPL",
    "ex_date": DAY,
    "event_type": "cash",
    "cash": 0.25,
    "split_ratio": 1.0,
    "bonus_ratio": 0.0,
    "rights_ratio": 0.0,
    "rights_price": 0.0,
    "currency": "USD",
    "price_unit": 1.0,
    "basis_factor": 1.0,
    "inferred": False,
    "detail": None,
}
INSTRUMENT = dict.fromkeys(RAW_INSTRUMENTS.names) | {"fetch_id": "f1", "row": 0, "raw_symbol": "AAPL"}


def pulls(fetched_at: datetime = FETCHED) -> pl.DataFrame:
    return pl.DataFrame(
        {"fetch_id": ["f1", "f2"], "provider": ["one", "one"], "fetched_at": [fetched_at, fetched_at]},
        schema_overrides={"fetched_at": pl.Datetime("us", "UTC")},
    )


def sessions(spec: MarketSpec) -> pl.DataFrame:
    names = sorted({spec.calendar, *(exchange.calendar for exchange in spec.exchanges.values())})
    span = date(2026, 1, 1), date(2026, 12, 31)
    return pl.concat(calendar(name).sessions(*span).with_columns(calendar=pl.lit(name)) for name in names)


def cleaned(*changes: dict[str, Any], spec: MarketSpec = US, at: datetime = FETCHED, **options: Any) -> Cleaned:
    """Bars that differ from an ordinary one as told; rows are numbered."""
    rows = [{**BAR, "row": number, "currency": spec.currency, **change} for number, change in enumerate(changes)]
    return clean_bars(pl.DataFrame(rows, schema=RAW_BARS.polars_schema), pulls(at), spec, sessions(spec), **options)


def acted(*changes: dict[str, Any]) -> Cleaned:
    rows = [{**ACTION, "row": number, **change} for number, change in enumerate(changes)]
    return clean_actions(pl.DataFrame(rows, schema=RAW_ACTIONS.polars_schema), pulls(), US)


def described(*changes: dict[str, Any]) -> Cleaned:
    rows = [{**INSTRUMENT, "row": number, **change} for number, change in enumerate(changes)]
    return clean_instruments(pl.DataFrame(rows, schema=RAW_INSTRUMENTS.polars_schema), pulls(), US)


def reasons(result: Cleaned) -> list[list[str]]:
    return result.quarantined.sort("payload_row")["reasons"].to_list()


def only(result: Cleaned) -> dict[str, Any]:
    assert result.quarantined.is_empty(), reasons(result)
    assert result.accepted.height == 1
    return result.accepted.row(0, named=True)


# --- any frame whatever ---------------------------------------------------------------------------------------------

NUMBERS = st.none() | st.floats(width=64) | st.sampled_from([0.0, -1.0, 10.0, 10.000000000000002, 16.35, 1e300])
SYMBOLS = st.sampled_from(["AAPL", "aapl", "BRK-B", "^GSPC", "???", "", "VNM.VN", "A" * 40, "ABR-P-D"])
DATES = st.none() | st.dates(date(1899, 1, 1), date(2199, 1, 1)) | st.sampled_from([DAY, date(2026, 11, 20)])
UNITS = st.sampled_from([1.0, 1000.0, 0.01, 0.0, -1.0])
CURRENCIES = st.none() | st.sampled_from(["USD", "EUR", "usd", ""])
RATIOS = st.none() | st.floats(width=64) | st.sampled_from([0.0, 1.0, 2.0, 0.5])


@st.composite
def raw_rows(draw: st.DrawFn, table: Table, columns: dict[str, st.SearchStrategy[Any]]) -> pl.DataFrame:
    rows = draw(
        st.lists(st.fixed_dictionaries(columns), min_size=1, max_size=8).flatmap(
            lambda rows: st.lists(st.sampled_from(rows), min_size=1, max_size=12)
        )
    )
    template = {"bars": BAR, "actions": ACTION, "instruments": INSTRUMENT}[table.name]
    numbered = [{**template, "row": number, **row} for number, row in enumerate(rows)]
    return pl.DataFrame(numbered, schema=table.polars_schema)


def assert_nothing_is_lost(raw: pl.DataFrame, result: Cleaned, raw_table: Table, table: Table) -> None:
    """Each row is on exactly one side, believed ones keep the contract, set aside ones keep their words."""
    kept = [*result.accepted["payload_row"], *result.quarantined["payload_row"]]
    assert sorted(kept) == raw["row"].to_list()
    stamped = result.accepted.with_columns(
        known_to=pl.lit(None, dtype=pl.Datetime("us", "UTC")), change_class=pl.lit("new"), batch=pl.lit(1)
    )
    assert violations(table, table.conform(stamped)).rows() == []
    assert all(result.quarantined["reasons"].list.len() > 0)
    for number, text in result.quarantined.select("payload_row", "row_json").iter_rows():
        told = json.loads(text)
        assert list(told) == raw_table.names
        assert told["row"] == number
        assert told["raw_symbol"] == raw["raw_symbol"][number]


laws = settings(max_examples=60, deadline=None)


@laws
@given(
    raw_rows(
        RAW_BARS,
        {
            "fetch_id": st.sampled_from(["f1", "f2"]),
            "raw_symbol": SYMBOLS,
            "session": DATES,
            **dict.fromkeys(("open", "high", "low", "close", "volume", "value", "adj_close"), NUMBERS),
            "currency": CURRENCIES,
            "exchange": st.none() | st.sampled_from(["NYQ", "Nowhere"]),
            "price_basis": st.sampled_from(["raw", "split_adjusted", "adjusted_by_source"]),
            **dict.fromkeys(("price_unit", "volume_unit", "value_unit"), UNITS),
            "basis_factor": RATIOS,
        },
    )
)
def test_every_bar_is_accepted_or_quarantined_and_accepted_ones_keep_the_contract(raw: pl.DataFrame) -> None:
    result = clean_bars(raw, pulls(), US, sessions(US))
    assert_nothing_is_lost(raw, result, RAW_BARS, CLEAN_BARS)


@laws
@given(
    raw_rows(
        RAW_ACTIONS,
        {
            "raw_symbol": SYMBOLS,
            "ex_date": DATES,
            "event_type": st.sampled_from(["cash", "split", "bonus", "rights", "party"]),
            **dict.fromkeys(("cash", "rights_price"), NUMBERS),
            **dict.fromkeys(("split_ratio", "bonus_ratio", "rights_ratio", "basis_factor"), RATIOS),
            "currency": CURRENCIES,
            "price_unit": UNITS,
        },
    )
)
def test_every_action_is_accepted_or_quarantined_and_accepted_ones_keep_the_contract(raw: pl.DataFrame) -> None:
    result = clean_actions(raw, pulls(), US)
    assert_nothing_is_lost(raw, result, RAW_ACTIONS, CLEAN_ACTIONS)


@laws
@given(
    raw_rows(
        RAW_INSTRUMENTS,
        {
            "raw_symbol": SYMBOLS,
            "asset": st.none() | st.sampled_from(["STOCK", "etf", "INDEX", "mystery"]),
            "name": st.none() | st.sampled_from(["Apple Inc.", ""]),
            "exchange": st.none() | st.sampled_from(["NYQ", "Nowhere"]),
            "currency": CURRENCIES,
            "listed": DATES,
            "delisted": DATES,
        },
    )
)
def test_every_description_is_accepted_or_quarantined_and_accepted_ones_keep_the_contract(raw: pl.DataFrame) -> None:
    result = clean_instruments(raw, pulls(), US)
    assert_nothing_is_lost(raw, result, RAW_INSTRUMENTS, INSTRUMENTS)


# --- reasons --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"session": None}, "missing_date"),
        ({"close": None}, "missing_price"),
        ({"open": float("nan")}, "price_not_finite"),
        ({"high": float("inf")}, "price_not_finite"),
        ({"low": 0.0}, "price_not_positive"),
        ({"open": -10.0, "low": -11.0}, "price_not_positive"),
        ({"low": 10.2}, "price_order"),
        ({"high": 10.2}, "price_order"),
        ({"volume": -1.0}, "volume_negative"),
        ({"value": -1.0}, "value_negative"),
        ({"currency": "EUR"}, "wrong_currency"),
        ({"currency": "usd"}, "wrong_currency"),
        ({"session": date(2026, 11, 23)}, "future_session"),
        ({"session": date(2026, 11, 15)}, "not_a_session"),
        ({"session": date(1980, 1, 2)}, "not_a_session"),
        ({"raw_symbol": "no such thing"}, "unknown_symbol"),
        ({"fetch_id": "f9"}, "unknown_pull"),
    ],
)
def test_a_bar_that_breaks_one_rule_is_set_aside_for_that_reason(change: dict[str, Any], reason: str) -> None:
    result = cleaned(change)
    assert reasons(result) == [[reason]]
    assert result.reasons() == {reason: 1}


def test_a_bar_that_breaks_several_rules_names_them_all() -> None:
    assert reasons(cleaned({"close": None, "volume": -5.0, "currency": "EUR"})) == [
        ["missing_price", "volume_negative", "wrong_currency"]
    ]


def test_of_identical_copies_the_first_stands() -> None:
    result = cleaned({}, {}, {})
    assert result.accepted["payload_row"].to_list() == [0]
    assert reasons(result) == [["duplicate"], ["duplicate"]]


def test_of_contradicting_copies_none_is_believed() -> None:
    result = cleaned({}, {"close": 10.6}, {})
    assert result.accepted.is_empty()
    assert reasons(result) == [["contradicting_duplicate"]] * 3


def test_the_same_bar_in_two_pulls_is_no_copy() -> None:
    assert cleaned({}, {"fetch_id": "f2", "close": 10.6}).quarantined.is_empty()


def test_rows_of_unknown_symbols_are_not_copies_of_each_other() -> None:
    assert reasons(cleaned({"raw_symbol": "?1"}, {"raw_symbol": "?2"})) == [["unknown_symbol"]] * 2
    assert reasons(cleaned({"session": None}, {"session": None, "close": 10.6})) == [["missing_date"]] * 2


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"ex_date": None}, "missing_date"),
        ({"event_type": "party"}, "unknown_event_type"),
        ({"cash": float("nan")}, "not_finite"),
        ({"cash": -0.25}, "negative_amount"),
        ({"event_type": "split", "cash": 0.0, "split_ratio": 0.0}, "split_ratio_zero"),
        ({"cash": 0.0}, "no_effect"),
        ({"currency": "GBp"}, "unknown_currency"),
        ({"raw_symbol": "?"}, "unknown_symbol"),
        ({"fetch_id": "f9"}, "unknown_pull"),
    ],
)
def test_an_action_that_breaks_one_rule_is_set_aside_for_that_reason(change: dict[str, Any], reason: str) -> None:
    assert reasons(acted(change)) == [[reason]]


def test_several_events_on_one_day_are_told_apart_whatever_their_order() -> None:
    terms = [{"cash": 0.5}, {"cash": 0.25}, {"event_type": "split", "cash": 0.0, "split_ratio": 2.0}]
    one, other = acted(*terms), acted(*reversed(terms))
    key = ["event_type", "seq", "cash", "split_ratio"]
    assert one.accepted.select(key).sort(key).rows() == [
        ("cash", 0, 0.25, 1.0),
        ("cash", 1, 0.5, 1.0),
        ("split", 0, 0.0, 2.0),
    ]
    assert one.accepted.select(key).sort(key).equals(other.accepted.select(key).sort(key))


def test_a_split_in_a_ratio_nobody_splits_in_is_a_spin_off() -> None:
    result = acted({"event_type": "split", "cash": 0.0, "split_ratio": 1.046})
    assert result.accepted["event_type"].to_list() == ["spin_off"]


def test_a_description_that_ends_before_it_begins_is_set_aside() -> None:
    result = described({"listed": DAY, "delisted": DAY - timedelta(days=1)}, {"raw_symbol": "IBM", "currency": "usd"})
    assert reasons(result) == [["delisted_before_listed"], ["unknown_currency"]]
    assert described({}).accepted["currency"].to_list() == ["USD"]


# --- units ----------------------------------------------------------------------------------------------------------


def test_thousand_dong_become_dong_without_float_noise() -> None:
    vn = market("vn")
    change = {"raw_symbol": "FPT", "session": date(2026, 11, 18), "price_unit": 1000.0}
    ohlc = {"open": 16.35, "high": 16.4, "low": 16.3, "close": 16.35}
    bar = only(cleaned(change | ohlc, spec=vn))
    assert [bar[name] for name in ohlc] == [16350.0, 16400.0, 16300.0, 16350.0]
    assert (bar["currency"], bar["symbol"]) == ("VND", "VN:STOCK:FPT")


@given(st.integers(1, 10**7), st.integers(0, 3), st.sampled_from(["1000", "0.01", "10", "100"]))
@settings(deadline=None, max_examples=40)
def test_a_converted_price_is_the_decimal_product(units: int, decimals: int, price_unit: str) -> None:
    price = Decimal(units) / 10**decimals
    said = dict.fromkeys(("open", "high", "low", "close"), float(price)) | {"price_unit": float(price_unit)}
    assert only(cleaned(said))["close"] == float(price * Decimal(price_unit))


@given(st.integers(1, 10**14))
@settings(deadline=None, max_examples=40)
def test_a_converted_value_keeps_every_digit(value: int) -> None:
    """A turnover of 123,456.789012 million has twelve digits, and all of them count."""
    said = {"value": float(Decimal(value) / 10**6), "value_unit": 1e6}
    assert only(cleaned(said))["value"] == float(value)


def test_lots_become_shares_and_pence_become_pounds() -> None:
    assert only(cleaned({"volume": 12.0, "volume_unit": 100.0}))["volume"] == 1200
    assert (
        only(cleaned({"price_unit": 0.01, "open": 1000.0, "high": 1100.0, "low": 900.0, "close": 1050.0}))["close"]
        == 10.5
    )


def test_a_split_adjusted_bar_is_undone_by_its_factor_and_says_so() -> None:
    said = {"price_basis": "split_adjusted", "basis_factor": 28.0, "close": 3.5, "open": 3.5, "high": 3.5, "low": 3.5}
    bar = only(cleaned(said | {"volume": 28_000.0}))
    assert (bar["close"], bar["volume"], bar["price_basis"]) == (98.0, 1000, "raw")
    assert bar["flags"] == BarFlag.RAW_RECONSTRUCTED


def test_an_adjusted_price_whose_factor_nobody_knows_stays_what_it_is() -> None:
    split = only(cleaned({"price_basis": "split_adjusted", "basis_factor": None}))
    source = only(cleaned({"price_basis": "adjusted_by_source"}))
    assert (split["price_basis"], split["close"], split["flags"]) == ("split_adjusted", 10.5, 0)
    assert (source["price_basis"], source["flags"]) == ("adjusted_by_source", BarFlag.ADJUSTED_BY_SOURCE)


def test_a_price_in_our_unit_keeps_its_every_bit() -> None:
    close = 10.123456789012345
    assert only(cleaned({"close": close}))["close"] == close


def test_float_noise_between_prices_is_no_broken_order() -> None:
    """A low one bit above the open is put on it: refusing it would lose a good bar, keeping it break the contract."""
    bar = only(cleaned({"open": 10.0, "low": 10.000000000000002, "close": 10.3, "high": 10.299999999999999}))
    assert (bar["low"], bar["high"]) == (10.0, 10.3)
    assert reasons(cleaned({"open": 10.0, "low": 10.000001})) == [["price_order"]]


def test_what_is_no_number_is_missing_where_a_bar_can_do_without() -> None:
    said = {"volume": float("nan"), "value": float("inf"), "adj_close": float("nan")}
    bar = only(cleaned(said))
    assert (bar["volume"], bar["value"], bar["adj_close"]) == (None, None, None)


def test_a_currency_nobody_states_is_the_market_s() -> None:
    assert only(cleaned({"currency": None}))["currency"] == "USD"
    assert acted({"currency": None}).accepted["currency"].to_list() == ["USD"]


@pytest.mark.parametrize(("said", "code"), [("NMS", "NASDAQ"), ("nyq", "NYSE"), ("XNAS", "NASDAQ"), ("Mars", None)])
def test_the_venue_is_known_by_any_of_its_names(said: str, code: str | None) -> None:
    assert only(cleaned({"exchange": said}))["exchange"] == code


# --- time -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("clock", "expected"),
    [
        (lambda close: close - timedelta(hours=3), True),
        (lambda close: close, True),
        (lambda close: close + US.settle - timedelta(microseconds=1), True),
        (lambda close: close + US.settle, False),
    ],
)
def test_a_bar_is_provisional_until_its_close_has_settled(
    clock: Callable[[datetime], datetime], expected: bool
) -> None:
    """Judged by the clock of the pull, so that a replay years later judges alike."""
    close = calendar("XNYS").sessions(DAY, DAY)["close"][0]
    assert only(cleaned({}, at=clock(close)))["provisional"] is expected


def test_an_early_close_settles_early() -> None:
    thanksgiving_friday = date(2026, 11, 27)  # New York closes at 13:00, 18:00 UTC
    at = datetime(2026, 11, 27, 18, 30, tzinfo=UTC)
    assert only(cleaned({"session": thanksgiving_friday}, at=at))["provisional"] is False


def test_today_is_the_exchange_s_date() -> None:
    evening = datetime(2026, 11, 19, 3, tzinfo=UTC)  # still the 18th in New York
    assert only(cleaned({}, at=evening))["provisional"] is False
    assert reasons(cleaned({"session": date(2026, 11, 19)}, at=evening)) == [["future_session"]]


# --- flags ----------------------------------------------------------------------------------------------------------


def test_what_is_worth_knowing_about_a_bar_is_flagged() -> None:
    flat = dict.fromkeys(("open", "high", "low", "close"), 10.0)
    assert only(cleaned({"volume": 0.0}))["flags"] == BarFlag.ZERO_VOLUME
    assert only(cleaned({"volume": 0.0} | flat))["flags"] == BarFlag.ZERO_VOLUME | BarFlag.PLACEHOLDER
    assert only(cleaned({"volume": 0.0, "raw_symbol": "^GSPC"} | flat))["flags"] == BarFlag.ZERO_VOLUME
    assert only(cleaned({}, synthetic=True))["flags"] == BarFlag.SYNTHETIC
    projected = sessions(US).with_columns(projected=pl.lit(value=True))
    raw = pl.DataFrame([BAR], schema=RAW_BARS.polars_schema)
    assert only(clean_bars(raw, pulls(), US, projected))["flags"] == BarFlag.PROJECTED_SESSION


def test_how_each_spelling_was_understood_is_told_once() -> None:
    result = cleaned({}, {"session": DAY - timedelta(days=1)}, {"raw_symbol": "BRK-B"}, {"raw_symbol": "?"})
    assert result.spellings.select("raw_symbol", "symbol").rows() == [
        ("AAPL", "US:STOCK:AAPL"),
        ("BRK-B", "US:STOCK:BRK.B"),
    ]


# --- the contract ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "check"),
    [
        ({"close": float("nan"), "high": float("nan")}, "finite"),
        ({"high": float("inf")}, "finite"),
        ({"open": 0.0, "low": 0.0}, "greater_than(0)"),
        ({"low": 10.2}, "low <= open, close <= high"),
        ({"volume": -1}, "greater_than_or_equal_to(0)"),
        ({"symbol": "AAPL"}, "str_matches"),
        ({"currency": "usd"}, "str_matches"),
        ({"close": None}, "not_nullable"),
    ],
)
def test_a_row_that_breaks_the_contract_is_found_whoever_let_it_pass(change: dict[str, Any], check: str) -> None:
    accepted = cleaned({}).accepted.with_columns(known_to=None, change_class=pl.lit("new"), batch=1)
    sound = CLEAN_BARS.conform(accepted)
    assert violations(CLEAN_BARS, sound).is_empty()
    broken = sound.with_columns(pl.lit(value, dtype=sound.schema[name]).alias(name) for name, value in change.items())
    assert any(check in found for found in violations(CLEAN_BARS, broken)["check"])


def test_a_key_that_is_there_twice_breaks_the_contract() -> None:
    accepted = cleaned({}).accepted.with_columns(known_to=None, change_class=pl.lit("new"), batch=1)
    sound = CLEAN_BARS.conform(accepted)
    assert violations(CLEAN_BARS, pl.concat([sound, sound])).height > 0
