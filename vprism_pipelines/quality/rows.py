"""From a provider's rows to ours: units, identifiers and dates made one, each row accepted or quarantined with reasons.

The row checks (R1–R8, `quality.row_checks`) need nothing but the row, its pull and the calendar. Nothing is dropped:
what is not accepted is kept whole in the quarantine, with the name of every rule it broke.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce

import polars as pl

from vprism_pipelines.market.actions import DECISIONS, EVENT_TYPES, spin_off_suspects
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.market.symbols import resolve_frame
from vprism_pipelines.quality.flags import BarFlag
from vprism_pipelines.quality.row_rules import PRICES, bar_rules, listed_currency, mark_duplicates
from vprism_pipelines.tables import (
    CLEAN_ACTIONS,
    CLEAN_BARS,
    INSTRUMENTS,
    QUARANTINE,
    RAW_ACTIONS,
    RAW_BARS,
    RAW_INSTRUMENTS,
    Table,
)

ANYWHERE = "*"  # calendar of the days on which at least one exchange of a market trades
OHLC_TOLERANCE = 1e-12  # relative
# A converted number carries float noise of the multiplication. Ten digits hold every price there is; the turnover of
# a market needs more, and fifteen are what a double holds exactly.
PRICE_DIGITS = 10
VALUE_DIGITS = 15
IS_INDEX = pl.col("symbol").str.contains(":INDEX:", literal=True)
UNKNOWN_CURRENCY = ~pl.col("currency").str.contains(r"^[A-Z]{3}$")


@dataclass(frozen=True, slots=True)
class Cleaned:
    """Rows of some pulls, split in two.

    Attributes:
        accepted: Columns of the ledger table except known_to, change_class and batch.
        quarantined: `tables.QUARANTINE`.
        spellings: Distinct raw_symbol, symbol, rule_id that were resolved.
    """

    accepted: pl.DataFrame
    quarantined: pl.DataFrame
    spellings: pl.DataFrame

    @property
    def rows(self) -> int:
        """Accepted and quarantined."""
        return self.accepted.height + self.quarantined.height

    def reasons(self) -> dict[str, int]:
        """Quarantined rows by reason; a row with two reasons counts twice."""
        counted = self.quarantined.get_column("reasons").explode().value_counts(sort=True)
        return dict(counted.iter_rows())


def clean_bars(
    raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec, sessions: pl.DataFrame, *, synthetic: bool = False
) -> Cleaned:
    """Normalise and check daily bars.

    Args:
        raw: `tables.RAW_BARS`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
        sessions: calendar, session, close (UTC), projected: trading days of the market's calendars, covering the rows;
            under `ANYWHERE` those of all of them together.
        synthetic: The provider invents its data; bars are flagged.
    """
    frame = identify(raw, pulls, spec)
    calendars = {code: exchange.calendar for code, exchange in spec.exchanges.items()}
    days = sessions.select("calendar", "session", "projected", session_close=pl.col("close"))
    settled = pl.col("fetched_at") >= pl.col("session_close") + spec.settle
    frame = (
        frame.with_columns(_to_units())
        .with_columns(*_without_order_noise(), currency=pl.coalesce("currency", listed_currency(spec)))
        .with_columns(calendar=pl.col("exchange").replace_strict(calendars, default=None))
        .with_columns(pl.col("calendar").fill_null(_default_calendar(spec, days)))
        .join(days, on=["calendar", "session"], how="left", maintain_order="left")
        .with_columns(provisional=(~settled).fill_null(value=False))
    )
    frame, rules = bar_rules(frame, days, spec)
    untraded = pl.col("volume") == 0
    known = pl.col("basis_factor").is_not_null() & pl.col("price_basis").is_in(["raw", "split_adjusted"])
    flat = pl.all_horizontal(pl.col(name) == pl.col("close") for name in ("open", "high", "low"))
    flags = [
        (untraded, BarFlag.ZERO_VOLUME),
        (untraded & flat & ~IS_INDEX, BarFlag.PLACEHOLDER),
        (known & (pl.col("price_basis") == "split_adjusted"), BarFlag.RAW_RECONSTRUCTED),
        (pl.col("price_basis") == "adjusted_by_source", BarFlag.ADJUSTED_BY_SOURCE),
        (pl.col("projected"), BarFlag.PROJECTED_SESSION),
        (pl.lit(value=synthetic), BarFlag.SYNTHETIC),
    ]
    bits = pl.sum_horizontal(
        pl.when(condition.fill_null(value=False)).then(int(flag)).otherwise(0) for condition, flag in flags
    )
    frame = frame.with_columns(
        flags=bits, price_basis=pl.when(known).then(pl.lit("raw")).otherwise(pl.col("price_basis"))
    )
    return split(frame, rules | identity_rules(), raw, RAW_BARS, CLEAN_BARS, "bars", spec, "session")


def _default_calendar(spec: MarketSpec, days: pl.DataFrame) -> pl.Expr:
    """Where nobody names the exchange, a session of any of the market's will do; indices follow the main one."""
    if not (days["calendar"] == ANYWHERE).any():
        return pl.lit(spec.calendar)
    return pl.when(IS_INDEX).then(pl.lit(spec.calendar)).otherwise(pl.lit(ANYWHERE))


def clean_actions(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> Cleaned:
    """Normalise and check corporate actions.

    Args:
        raw: `tables.RAW_ACTIONS`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
    """
    frame = identify(raw, pulls, spec)
    unit = pl.col("price_unit") * pl.col("basis_factor").fill_null(1.0)
    amounts = ("cash", "split_ratio", "bonus_ratio", "rights_ratio", "rights_price")
    event = ["provider", "fetch_id", "symbol", "ex_date", "event_type"]
    frame = frame.with_columns(
        cash=converted(pl.col("cash"), unit).fill_null(0.0),
        rights_price=converted(pl.col("rights_price"), pl.col("price_unit")).fill_null(0.0),
        split_ratio=pl.col("split_ratio").fill_null(1.0),
        bonus_ratio=pl.col("bonus_ratio").fill_null(0.0),
        rights_ratio=pl.col("rights_ratio").fill_null(0.0),
        currency=pl.col("currency").fill_null(spec.currency),
    )
    # A "split" in a ratio nobody splits shares in is a spin-off: it moves prices, not share counts.
    odd = spin_off_suspects(frame).select("symbol", "ex_date", "split_ratio", suspect=pl.lit("spin_off"))
    frame = frame.join(odd.unique(), on=["symbol", "ex_date", "split_ratio"], how="left").with_columns(
        event_type=pl.coalesce("suspect", "event_type")
    )
    decided = pl.col("provider") == DECISIONS
    said = pl.when(decided).then("detail").str.json_path_match("$.decision")
    frame = frame.with_columns(withdrawn=pl.when(said == "withdrawn").then(statement=True))
    frame = frame.with_columns(seq=pl.struct(amounts).rank("ordinal").over(event).cast(pl.Int32) - 1)
    says_nothing = (
        (pl.col("cash") == 0)
        & (pl.col("split_ratio") == 1)
        & (pl.col("bonus_ratio") == 0)
        & (pl.col("rights_ratio") == 0)
    )
    rules: dict[str, pl.Expr] = {
        "missing_date": pl.col("ex_date").is_null(),
        "unknown_event_type": ~pl.col("event_type").is_in(EVENT_TYPES),
        "not_finite": pl.any_horizontal(~pl.col(name).is_finite() for name in amounts),
        "negative_amount": pl.any_horizontal(pl.col(name) < 0 for name in amounts),
        "split_ratio_zero": pl.col("split_ratio") == 0,
        "unknown_currency": UNKNOWN_CURRENCY,
        "no_effect": says_nothing & ~decided,  # a decision that nothing happened cancels what others declared
        **identity_rules(duplicates=False),
    }
    return split(frame, rules, raw, RAW_ACTIONS, CLEAN_ACTIONS, "actions", spec, "ex_date")


def clean_instruments(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> Cleaned:
    """Normalise and check descriptions of instruments.

    Args:
        raw: `tables.RAW_INSTRUMENTS`.
        pulls: fetch_id, provider, fetched_at (UTC) of every pull in `raw`.
        spec: The market they belong to.
    """
    frame = identify(raw, pulls, spec).with_columns(
        currency=pl.col("currency").fill_null(spec.currency), described_on=pl.col("fetched_at").dt.date()
    )
    described = ["name", "exchange", "listed", "delisted", "sector", "isin"]
    frame = mark_duplicates(frame, ["provider", "fetch_id", "symbol"], described)
    rules = {
        "delisted_before_listed": pl.col("delisted") < pl.col("listed"),
        "unknown_currency": UNKNOWN_CURRENCY,
        **identity_rules(),
    }
    return split(frame, rules, raw, RAW_INSTRUMENTS, INSTRUMENTS, "instruments", spec, "described_on")


def identify(raw: pl.DataFrame, pulls: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Add place (in the raw frame), provider, fetched_at, symbol, rule_id; the raw frame's own columns stay."""
    frame = (
        _resolved(raw, spec)
        .with_row_index("place")
        .join(pulls.select("fetch_id", "provider", "fetched_at"), on="fetch_id", how="left", maintain_order="left")
    )
    if "exchange" in frame.columns:
        frame = frame.with_columns(
            exchange=pl.col("exchange").str.to_uppercase().replace_strict(_exchange_names(spec), default=None)
        )
    return frame


def _resolved(raw: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Resolve spellings; where the provider says what kind of instrument it is, that decides between readings."""
    if "asset" not in raw.columns:
        return resolve_frame(raw, column="raw_symbol", market=spec.prefix)
    kinds = raw.with_row_index("order").with_columns(pl.col("asset").str.to_uppercase()).partition_by("asset")
    parts = [resolve_frame(kind, column="raw_symbol", market=spec.prefix, asset=kind["asset"][0]) for kind in kinds]
    return pl.concat(parts).sort("order").drop("order") if parts else resolve_frame(raw, market=spec.prefix)


def _exchange_names(spec: MarketSpec) -> Mapping[str, str]:
    return {
        alias.upper(): code
        for code, exchange in spec.exchanges.items()
        for alias in (code, exchange.mic, *exchange.aliases)
    }


def _to_units() -> list[pl.Expr]:
    factor = pl.col("basis_factor").fill_null(1.0)
    unit = pl.col("price_unit") * factor
    volume = pl.col("volume") * pl.col("volume_unit") / factor
    return [
        *(converted(pl.col(name), unit) for name in PRICES),
        finite(converted(pl.col("adj_close"), pl.col("price_unit"))),
        finite(converted(pl.col("value"), pl.col("value_unit"), VALUE_DIGITS)),
        finite(volume).round(0).cast(pl.Int64, strict=False).alias("volume"),
    ]


def converted(amount: pl.Expr, unit: pl.Expr, digits: int = PRICE_DIGITS) -> pl.Expr:
    """Multiply, and take away the noise of the multiplication; an amount already in our unit keeps its every bit."""
    return pl.when(unit == 1.0).then(amount).otherwise((amount * unit).round_sig_figs(digits))


def finite(amount: pl.Expr) -> pl.Expr:
    """What is no number is missing; of these columns a bar can do without."""
    return pl.when(amount.is_finite()).then(amount)


def _without_order_noise() -> list[pl.Expr]:
    """Low and high that are beyond open or close by float noise alone are put on them."""
    floor, ceiling = pl.min_horizontal("open", "close"), pl.max_horizontal("open", "close")
    low, high = pl.col("low"), pl.col("high")
    return [
        pl.when((low > floor) & (low <= floor * (1 + OHLC_TOLERANCE))).then(floor).otherwise(low).alias("low"),
        pl.when((high < ceiling) & (high * (1 + OHLC_TOLERANCE) >= ceiling))
        .then(ceiling)
        .otherwise(high)
        .alias("high"),
    ]


def identity_rules(*, duplicates: bool = True) -> dict[str, pl.Expr]:
    rules = {"unknown_symbol": pl.col("symbol").is_null(), "unknown_pull": pl.col("provider").is_null()}
    if duplicates:
        rules |= {"duplicate": pl.col("duplicate"), "contradicting_duplicate": pl.col("contradicts")}
    return rules


def split(
    frame: pl.DataFrame,
    rules: Mapping[str, pl.Expr],
    raw: pl.DataFrame,
    raw_table: Table,
    table: Table,
    dataset: str,
    spec: MarketSpec,
    date: str,
) -> Cleaned:
    broken = [rule.fill_null(value=False) for rule in rules.values()]
    frame = frame.with_columns(broken=reduce(lambda left, right: left | right, broken))
    kept = [name for name in table.names if name not in ("known_to", "change_class", "batch")]
    accepted = (
        frame.rename({"fetched_at": "known_from", "row": "payload_row"})
        .with_columns(pl.lit(None, dtype=pl.String).alias(name) for name in kept if name not in _present(frame))
        .select("broken", *kept)  # first: the filter copies what it is given
        .filter(~pl.col("broken"))
        .select(pl.col(name).cast(table.polars_schema[name]) for name in kept)
    )
    reasons = pl.concat_list(
        pl.when(rule.fill_null(value=False)).then(pl.lit(name)) for name, rule in rules.items()
    ).list.drop_nulls()
    rejected = frame.filter(pl.col("broken"))
    originals = raw[rejected["place"]].select(pl.struct(raw_table.names).struct.json_encode()).to_series()
    quarantined = rejected.select(
        "fetch_id",
        pl.lit(dataset).alias("dataset"),
        pl.col("row").alias("payload_row"),
        "provider",
        pl.lit(spec.code).alias("market"),
        "raw_symbol",
        pl.col(date).alias("session"),
        reasons.alias("reasons"),
        originals.alias("row_json"),
        "fetched_at",
    )
    spellings = (
        frame.filter(pl.col("symbol").is_not_null())
        .select("raw_symbol", "provider", "symbol", "rule_id")
        .unique(maintain_order=True)
    )
    return Cleaned(accepted, QUARANTINE.conform(quarantined), spellings)


def _present(frame: pl.DataFrame) -> set[str]:
    return {*frame.columns, "known_from", "payload_row"}
