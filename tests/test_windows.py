"""What a user can rely on when bars are checked against the exchange's rules and their own neighbours."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import ContractViolation
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.rules import ceiling, floor, tick
from vprism_pipelines.market.spec import market
from vprism_pipelines.quality.blocks import blocks
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.thresholds import thresholds
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS, Severity
from vprism_pipelines.quality.windows import examine

VN, US = market("vn"), market("us")
SESSIONS = calendar("HOSE").sessions(date(2023, 1, 3), date(2024, 12, 31))
DAYS = SESSIONS["session"].to_list()
NO_ACTIONS = pl.DataFrame(schema={"symbol": pl.String, "ex_date": pl.Date, "ref_price": pl.Float64})
PRICES = ["open", "high", "low", "close"]
FPT = "VN:STOCK:FPT"


def quiet(n: int = 120, *, symbol: str = FPT, exchange: str | None = "HOSE", base: float = 26_400.0) -> pl.DataFrame:
    """Bars that move two ticks a day, with volume and value as an exchange would report them."""
    closes = [base + 100 * (day % 3) for day in range(n)]
    return pl.DataFrame(
        {"symbol": symbol, "session": DAYS[:n], "close": closes, "volume": [100_000 + 100 * (d % 7) for d in range(n)]}
    ).with_columns(
        exchange=pl.lit(exchange, pl.String),
        open=pl.col("close"),
        high=pl.col("close") + 100,
        low=pl.col("close") - 100,
        value=pl.col("close") * pl.col("volume"),
        traded=pl.lit(value=True),
    )


def hit(frame: pl.DataFrame, day: int, **changes: pl.Expr | float) -> pl.DataFrame:
    here = pl.col("session") == DAYS[day]
    return frame.with_columns(
        pl.when(here).then(change).otherwise(pl.col(name)).alias(name) for name, change in changes.items()
    )


def scaled(frame: pl.DataFrame, day: int, factor: float) -> pl.DataFrame:
    return hit(frame, day, **{name: pl.col(name) * factor for name in PRICES})


def at(frame: pl.DataFrame, day: int, actions: pl.DataFrame = NO_ACTIONS) -> dict[str, object]:
    found = examine(frame, actions, SESSIONS, VN).filter(pl.col("session") == DAYS[day])
    return found.row(0, named=True)


def test_a_quiet_series_has_no_finding() -> None:
    examined = examine(quiet(), NO_ACTIONS, SESSIONS, VN)
    assert examined["reasons"].list.len().sum() == 0
    assert examined["bits"].sum() == 0
    assert examined["ticket"].null_count() == examined.height
    assert blocks(examined).is_empty()


@pytest.mark.parametrize("factor", [1.2, 0.8, 10, 100, 1000, 0.1, 0.01, 0.001])
@pytest.mark.parametrize("day", [5, 70])
def test_a_bar_that_is_scaled_and_comes_back_is_quarantined_and_its_neighbours_are_not(factor: float, day: int) -> None:
    frame = scaled(quiet().with_columns(value=pl.lit(None, pl.Float64)), day, factor)
    examined = examine(frame, NO_ACTIONS, SESSIONS, VN)
    barred = examined.filter(pl.col("reasons").list.len() > 0)
    assert barred["session"].to_list() == [DAYS[day]]
    assert "price_band" in barred["reasons"][0]
    others = examined.filter(pl.col("session") != DAYS[day])
    assert (others["bits"].sum(), others["ticket"].drop_nulls().to_list()) == (0, [])
    assert blocks(examined).is_empty()


@pytest.mark.parametrize("factor", [1.2, 10, 100, 0.1, 0.01])
def test_the_newest_bar_is_believed_when_it_comes_back_from_a_wrong_one(factor: float) -> None:
    frame = scaled(quiet().with_columns(value=pl.lit(None, pl.Float64)), 118, factor)
    newest = at(frame, 119)
    assert (newest["reasons"], newest["bits"], newest["ticket"]) == ([], 0, None)


@pytest.mark.parametrize("factor", [10, 100, 0.1])
def test_without_limits_too_only_the_wrong_bar_is_named(factor: float) -> None:
    frame = scaled(quiet(symbol="US:STOCK:AAPL", exchange=None).with_columns(value=None), 60, factor)
    examined = examine(frame.cast({"value": pl.Float64}), NO_ACTIONS, SESSIONS, US)
    assert examined.filter(pl.col("bits") != 0)["session"].to_list() == [DAYS[60]]
    assert examined["ticket"].null_count() == examined.height


def test_a_fall_that_stays_is_a_missing_event_and_not_a_bad_bar() -> None:
    frame = quiet().with_columns(
        pl.when(pl.col("session") >= DAYS[60]).then(pl.col(name) - 6_000).otherwise(name).alias(name) for name in PRICES
    )
    found = at(frame.with_columns(value=pl.col("close") * pl.col("volume")), 60)
    assert (found["reasons"], found["ticket"]) == ([], "missing_event")
    assert found["bits"] & BarFlag.BAND_BREACH  # type: ignore[arg-type]


def halved(event: bool) -> dict[str, object]:
    frame = quiet().with_columns(
        pl.when(pl.col("session") >= DAYS[60]).then(pl.col(name) / 2).otherwise(name).alias(name) for name in PRICES
    )
    actions = pl.DataFrame({"symbol": [FPT], "ex_date": [DAYS[60]], "ref_price": [13_200.0]})
    return at(frame.with_columns(value=pl.col("close") * pl.col("volume")), 60, actions if event else NO_ACTIONS)


def test_a_jump_by_a_split_ratio_asks_for_the_split_and_a_known_one_explains_it() -> None:
    assert halved(event=False)["ticket"] == "split"
    assert halved(event=True)["ticket"] is None
    assert not halved(event=True)["band_breach"]


def test_a_unit_that_changes_for_good_blocks_the_symbol() -> None:
    frame = quiet().with_columns(
        pl.when(pl.col("session") >= DAYS[60]).then(pl.col(name) / 1000).otherwise(name).alias(name) for name in PRICES
    )
    examined = examine(frame.with_columns(value=pl.lit(None, pl.Float64)), NO_ACTIONS, SESSIONS, VN)
    assert blocks(examined).select("check", "symbol", "session").rows() == [("split_like_jump", FPT, DAYS[60])]


@given(reference=st.integers(101, 990), up=st.booleans(), ticks=st.integers(-2, 3))
@settings(max_examples=60, deadline=None)
def test_the_price_limit_is_exact_to_the_tick(reference: int, up: bool, ticks: int) -> None:
    price = reference * 100.0
    day = DAYS[60]
    limit = ceiling("HOSE", day, price) if up else floor("HOSE", day, price)
    size = tick("HOSE", day, price)
    assert limit is not None
    assert size is not None
    close = limit + (ticks if up else -ticks) * size
    frame = quiet(80).with_columns(pl.lit(price).alias(name) for name in PRICES)
    frame = hit(frame, 60, **dict.fromkeys(PRICES, close)).with_columns(value=pl.lit(None, pl.Float64))
    # One tick of grace, and not a bit more.
    found = at(frame, 60)
    assert found["price_band"] or found["band_breach"] or ticks <= 1
    assert not (found["price_band"] or found["band_breach"]) or ticks > 1


def test_a_price_between_two_ticks_is_quarantined_but_an_adjusted_series_is_not() -> None:
    assert at(hit(quiet(), 60, close=26_437.0, high=26_500.0, low=26_400.0), 60)["reasons"] == ["tick_lattice"]
    adjusted = quiet().with_columns(pl.col(name) * 0.98765 for name in PRICES)
    examined = examine(adjusted.with_columns(value=pl.lit(None, pl.Float64)), NO_ACTIONS, SESSIONS, VN)
    assert not examined["tick_lattice"].any()


def test_chinese_prices_a_thousandth_off_the_tick_are_not_held_against_a_bar() -> None:
    cents = quiet(symbol="CN:STOCK:SH600519", exchange="SSE", base=26_400.0).with_columns(
        *((pl.col(name) / 100).round(2) for name in PRICES), value=pl.lit(None, pl.Float64)
    )
    frame = hit(cents, 60, high=pl.col("high") - 0.001)
    assert not examine(frame, NO_ACTIONS, SESSIONS, market("cn"))["reasons"].list.len().sum()


@pytest.mark.parametrize(
    ("factor", "reasons"), [(100, {"vwap_bound", "unit_ratio"}), (0.01, {"vwap_bound", "unit_ratio"}), (1.0, set())]
)
def test_volume_in_the_wrong_unit_contradicts_the_value(factor: float, reasons: set[str]) -> None:
    frame = hit(quiet(), 60, volume=(pl.col("volume") * factor).cast(pl.Int64))
    assert set(at(frame, 60)["reasons"]) == reasons  # type: ignore[call-overload]


@pytest.mark.parametrize(("ratio", "fires"), [(0.8, False), (1.25, False), (0.7999, True), (1.2501, True)])
def test_the_unit_ratio_includes_its_bounds(ratio: float, fires: bool) -> None:
    assert at(hit(quiet(), 60, value=pl.col("close") * pl.col("volume") * ratio), 60)["unit_ratio"] is fires


def test_values_rounded_to_a_million_do_not_break_the_vwap_bound() -> None:
    thin = quiet().with_columns(volume=pl.lit(200)).with_columns(value=(pl.col("close") * 200 / 1e6).round() * 1e6)
    examined = examine(thin, NO_ACTIONS, SESSIONS, VN)
    assert not examined["vwap_bound"].any()


def test_a_wrong_unit_throughout_blocks_the_symbol() -> None:
    examined = examine(quiet().with_columns(pl.col("volume") // 100), NO_ACTIONS, SESSIONS, VN)
    assert set(blocks(examined)["check"]) == {"unit_ratio", "vwap_bound"}


def test_a_copy_of_yesterday_is_flagged_and_a_session_of_copies_blocked() -> None:
    names = [f"VN:STOCK:A{n:02d}" for n in range(30)]
    frames = [quiet(symbol=name) for name in names]
    copied = [
        hit(f, 60, **{c: f.filter(pl.col("session") == DAYS[59])[c][0] for c in [*PRICES, "volume", "value"]})
        for f in frames
    ]
    found = at(copied[0], 60)
    assert found["stale_copy"]
    assert found["bits"] == BarFlag.STALE_COPY
    result = blocks(examine(pl.concat(copied), NO_ACTIONS, SESSIONS, VN))
    assert result.select("check", "symbol", "session").rows() == [("stale_copy", None, DAYS[60])]


def test_flat_runs_count_traded_bars_only_and_nine_on_hose_are_too_many() -> None:
    frame = quiet().with_columns(
        pl.when(pl.col("session").is_between(DAYS[50], DAYS[57])).then(30_000.0).otherwise(name).alias(name)
        for name in PRICES
    )
    assert not at(frame, 57)["flat_run"]
    longer = hit(frame, 58, **dict.fromkeys(PRICES, 30_000.0))
    assert at(longer, 58)["flat_run"]
    assert not at(longer, 57)["flat_run"], "what comes later is no reproach"
    filler = hit(longer, 55, volume=0, traded=False)
    assert not at(filler, 58)["flat_run"]


def test_bars_without_volume_are_placeholders_and_with_a_range_lack_their_volume() -> None:
    empty = hit(quiet(), 60, **dict.fromkeys(PRICES, 26_400.0), volume=0, value=0.0, traded=False)
    assert at(empty, 60)["bits"] == BarFlag.PLACEHOLDER
    ranged = hit(quiet(), 60, volume=0, value=0.0, traded=False)
    assert at(ranged, 60)["bits"] == BarFlag.ZERO_VOLUME
    assert at(ranged, 60)["reasons"] == []


def test_statistics_see_only_the_past() -> None:
    frame = quiet()
    later = examine(scaled(frame, 100, 10), NO_ACTIONS, SESSIONS, VN)["z_return"][:99]
    assert later.equals(examine(frame, NO_ACTIONS, SESSIONS, VN)["z_return"][:99], null_equal=True)


def test_where_no_limit_exists_a_spike_that_reverses_is_flagged_and_a_trebling_quarantined() -> None:
    def apple(factor: float) -> dict[str, object]:
        frame = quiet(symbol="US:STOCK:AAPL", exchange="NASDAQ", base=150.0).with_columns(
            [(149 + pl.col("close") / 1e4).alias(n) for n in PRICES], value=pl.lit(None, pl.Float64)
        )
        found = examine(scaled(frame, 60, factor), NO_ACTIONS, SESSIONS, US)
        return found.filter(pl.col("session") == DAYS[60]).row(0, named=True)

    assert apple(1.3)["bits"] == BarFlag.SPIKE
    assert apple(1.3)["reasons"] == []
    assert apple(10)["reasons"] == ["scale_spike"]
    assert apple(1.05)["bits"] in (0, BarFlag.SPIKE)


def test_an_unknown_exchange_is_held_to_the_widest_limits() -> None:
    frame = scaled(quiet(exchange=None).with_columns(value=pl.lit(None, pl.Float64)), 60, 1.125)
    assert not at(frame, 60)["price_band"]
    assert at(frame.with_columns(exchange=pl.lit("HOSE")), 60)["price_band"]


def test_one_symbols_bars_never_influence_anothers() -> None:
    other = scaled(quiet(symbol="VN:STOCK:AAA"), 119, 10)
    together = examine(pl.concat([other, quiet()]), NO_ACTIONS, SESSIONS, VN).filter(pl.col("symbol") == FPT)
    assert together.equals(examine(quiet(), NO_ACTIONS, SESSIONS, VN), null_equal=True)


def test_rows_come_back_complete_in_order_and_bad_input_is_refused() -> None:
    frame = quiet().sample(fraction=1.0, shuffle=True, seed=3)
    examined = examine(frame, NO_ACTIONS, SESSIONS, VN)
    assert examined.select(frame.columns).equals(quiet().select(frame.columns))
    assert examine(frame.clear(), NO_ACTIONS, SESSIONS, VN).is_empty()
    with pytest.raises(ContractViolation, match="twice"):
        examine(pl.concat([frame, frame]), NO_ACTIONS, SESSIONS, VN)
    with pytest.raises(ContractViolation, match="value"):
        examine(frame.drop("value"), NO_ACTIONS, SESSIONS, VN)


@pytest.mark.parametrize("factor", [3.0, 0.5, 1 / 25_000, 1000.0])
@pytest.mark.parametrize("value", [True, False])
def test_a_run_of_bars_scaled_by_one_factor_is_quarantined_whole(factor: float, value: bool) -> None:
    inside = pl.col("session").is_between(DAYS[60], DAYS[79])
    frame = quiet().with_columns(
        pl.when(inside).then(pl.col(name) * factor).otherwise(name).alias(name) for name in PRICES
    )
    if not value:
        frame = frame.with_columns(value=pl.lit(None, pl.Float64))
    examined = examine(frame, NO_ACTIONS, SESSIONS, VN)
    assert examined.filter("scaled_run")["session"].to_list() == DAYS[60:80]


def test_what_lies_between_two_scaled_runs_is_sound_and_bars_without_a_trade_within_them_are_not() -> None:
    run = pl.col("session").is_between(DAYS[40], DAYS[49]) | pl.col("session").is_between(DAYS[70], DAYS[79])
    frame = quiet().with_columns(pl.when(run).then(pl.col(name) * 2).otherwise(name).alias(name) for name in PRICES)
    idle = hit(frame, 45, **dict.fromkeys(PRICES, pl.col("close")), volume=0, value=0.0, traded=False)
    examined = examine(idle.with_columns(value=pl.lit(None, pl.Float64)), NO_ACTIONS, SESSIONS, VN)
    assert examined.filter("scaled_run")["session"].to_list() == [*DAYS[40:50], *DAYS[70:80]]


def test_a_dividend_too_many_takes_a_run_off_the_lattice_wherever_it_is() -> None:
    for first in (0, 60):
        run = pl.col("session").is_between(DAYS[first], DAYS[first + 19])
        frame = quiet().with_columns(
            pl.when(run).then(pl.col(name) * 0.9731).otherwise(name).alias(name) for name in PRICES
        )
        examined = examine(frame.with_columns(value=pl.lit(None, pl.Float64)), NO_ACTIONS, SESSIONS, VN)
        assert examined.filter("tick_lattice")["session"].to_list() == DAYS[first : first + 20]


def test_thresholds_of_an_installation_decide_from_when_on_a_check_fires() -> None:
    flat = quiet().with_columns(
        pl.when(pl.col("session").is_between(DAYS[50], DAYS[55])).then(30_000.0).otherwise(name).alias(name)
        for name in PRICES
    )
    strict = thresholds({"flat_run": {"HOSE": {"value": 5}}})
    elsewhere = thresholds({"flat_run": {"HNX": {"value": 5}}})
    fired = [examine(flat, NO_ACTIONS, SESSIONS, VN, rules)["flat_run"].sum() for rules in (strict, elsewhere)]
    assert fired == [1, 0]


@pytest.mark.shared
def test_at_most_a_hundred_of_a_million_real_hose_bars_are_quarantined(shared_data: Path) -> None:
    listing = pl.read_parquet(shared_data / "vn_listing_sectors.parquet").select(
        "symbol",
        venue=pl.col("exchange").str.to_uppercase(),
        listed=pl.col("listing_date").str.to_date("%m/%d/%Y", strict=False),
    )
    names = {"open": "GiaMoCua", "high": "GiaCaoNhat", "low": "GiaThapNhat", "close": "GiaDongCua"}
    bars = (
        pl.read_parquet(shared_data / "vn_cafef_daily.parquet")
        .filter(pl.col("date") >= date(2019, 1, 1))
        .join(listing.unique("symbol").filter(pl.col("venue") == "HOSE"), on="symbol")
        .select(
            pl.format("VN:STOCK:{}", "symbol").alias("symbol"),
            exchange=pl.when(pl.col("date") >= pl.col("listed")).then("venue"),
            session="date",
            **{name: (pl.col(column) * 1000).round() for name, column in names.items()},
            volume="KhoiLuongKhopLenh",
            value=pl.lit(None, pl.Float64),
            traded=pl.col("KhoiLuongKhopLenh") > 0,
        )
        .filter(
            pl.col("low") > 0,
            pl.col("low") <= pl.min_horizontal("open", "close"),
            pl.col("high") >= pl.max_horizontal("open", "close"),
        )
    )
    events = pl.read_parquet(shared_data / "vn_cafef_implied_events.parquet").select(
        pl.format("VN:STOCK:{}", "symbol").alias("symbol"), "ex_date", ref_price=pl.col("reference_price") * 1000
    )
    sessions = calendar("HOSE").sessions(date(2019, 1, 2), date(2025, 12, 31))
    examined = examine(bars, events, sessions, VN)
    assert examined.height > 500_000
    assert (examined["reasons"].list.len() > 0).sum() <= 100e-6 * examined.height
    assert blocks(examined).is_empty()
    assert {check.severity for check in WINDOW_CHECKS.values()} == set(Severity) - {Severity.BLOCK}
