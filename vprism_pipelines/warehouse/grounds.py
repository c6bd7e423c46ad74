"""Bars to try checks on: of the published warehouse, of files read through mappings, of the simulated exchange."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl

from vprism_pipelines.errors import InvalidInput, NoData
from vprism_pipelines.market.actions import merge_events
from vprism_pipelines.market.adjustment import factor_sets
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers import files
from vprism_pipelines.providers.files import FilesProvider, Mapping
from vprism_pipelines.providers.simulated import Exchange
from vprism_pipelines.warehouse.building import prefix
from vprism_pipelines.warehouse.ingest import clean_raw
from vprism_pipelines.warehouse.reader import Reader

__all__ = ["Ground", "of_files", "of_snapshot", "simulated"]

KEY = ["symbol", "session"]
NUMBERS = ("open", "high", "low", "close", "volume", "value")
BARS = pl.Schema(
    {
        "symbol": pl.String(),
        "session": pl.Date(),
        **dict.fromkeys(NUMBERS[:4], pl.Float64()),
        "volume": pl.Int64(),
        "value": pl.Float64(),
        "currency": pl.String(),
        "exchange": pl.String(),
    }
)
ACTIONS = pl.Schema({"symbol": pl.String(), "ex_date": pl.Date(), "ref_price": pl.Float64()})
Span = tuple[date, date]


@dataclass(frozen=True, slots=True)
class Ground:
    """Bars that count as true.

    Attributes:
        spec: Their market.
        bars: symbol, session, open, high, low, close (raw, currency units), volume (shares), value, currency, exchange
            (on that date; null: unknown); by symbol and session, each once.
        actions: symbol, ex_date, ref_price (currency units; null: unknown) of the known corporate actions.
        notes: Where they come from, for people.
    """

    spec: MarketSpec
    bars: pl.DataFrame
    actions: pl.DataFrame
    notes: tuple[str, ...]


def of_snapshot(reader: Reader, spec: MarketSpec, span: Span, exchange: str | None = None) -> Ground:
    """Golden bars as they are published, on raw prices, with the factor steps that belong to them.

    Args:
        reader: The published warehouse.
        spec: Market.
        span: First and last session.
        exchange: Only bars of this venue.

    Raises:
        NotPublished: There is no published warehouse.
        NoData: It has no such bars.
    """
    bars = reader.query(
        f"""SELECT symbol, session, open, high, low, close, volume, value, currency, exchange
            FROM golden.bars WHERE {prefix(spec)} AND price_basis = 'raw' AND session BETWEEN $first AND $last
              AND symbol NOT LIKE '%:INDEX:%'""",
        {"first": span[0], "last": span[1]},
    )
    steps = reader.query(f"SELECT symbol, ex_date, ref_price FROM golden.factor_steps WHERE {prefix(spec)}")
    return _ground(spec, bars, steps, span, exchange, ("golden bars of the published warehouse",))


def of_files(paths: Sequence[Path], spec: MarketSpec, span: Span, exchange: str | None = None) -> Ground:
    """Bars of files, cleaned like any delivery; nothing is kept.

    Args:
        paths: CSV or parquet files that shipped mappings explain: bars, and optionally listings (which exchange, since
            when) and corporate actions.
        spec: Market.
        span: First and last session.
        exchange: Only bars of this venue.

    Raises:
        InvalidInput: A file cannot be read, or no shipped mapping explains it.
        NoData: There are no such bars.
    """
    cleaned: dict[str, list[pl.DataFrame]] = {"bars": [], "instruments": [], "actions": []}
    notes = []
    for path in paths:
        mapping = files.guess(path)
        if mapping is None or mapping.market != spec.code:
            raise InvalidInput(
                f"no shipped mapping of the {spec.code} market explains {path.name}",
                hint="import it with a mapping of its own and measure the published warehouse",
                path=path,
            )
        accepted, note = _cleaned(path, mapping, spec, span)
        notes.append(f"{path.name}: {note}")
        for dataset, frame in accepted.items():
            cleaned[dataset].append(frame)
    if not cleaned["bars"]:
        raise NoData(f"no bars in {', '.join(path.name for path in paths)}", hint="name a file of daily bars")
    bars = (
        pl.concat(cleaned["bars"]).filter(pl.col("price_basis") == "raw").unique(KEY, keep="first", maintain_order=True)
    )
    if cleaned["instruments"]:
        bars = _listed(bars, pl.concat(cleaned["instruments"]))
    steps = pl.DataFrame(schema=ACTIONS)
    if cleaned["actions"]:
        events = merge_events(pl.concat(cleaned["actions"]).drop("payload_row"), spec.providers)
        steps = factor_sets(events, bars, spec.currency).steps.select(ACTIONS.names())
    return _ground(spec, bars, steps, span, exchange, tuple(notes))


def simulated(
    spec: MarketSpec, span: Span, exchange: str | None = None, *, symbols: int = 300, seed: int = 7
) -> Ground:
    """The simulated Vietnamese exchange, seen without any vendor in between.

    Args:
        spec: Market; only the Vietnamese one is simulated.
        span: First and last session.
        exchange: Only bars of this venue.
        symbols: Companies.
        seed: Of the simulation.

    Raises:
        InvalidInput: Another market.
        NoData: There are no such bars.
    """
    if spec.embedded_provider != "simulated":
        raise InvalidInput(f"there is no simulated {spec.name}", hint="name --market vn")
    market = Exchange(seed, symbols, *span)
    steps = market.ex_dates().rename({"reference": "ref_price"})
    note = f"{symbols} synthetic companies, seed {seed}: invented, obeys the rules exactly"
    return _ground(spec, market.bars(), steps, span, exchange, (note,))


def _ground(
    spec: MarketSpec,
    bars: pl.DataFrame,
    actions: pl.DataFrame,
    span: Span,
    exchange: str | None,
    notes: tuple[str, ...],
) -> Ground:
    if exchange and exchange not in spec.exchanges:
        raise InvalidInput(
            f"{exchange!r} is no exchange of the {spec.code} market", hint=f"it has {', '.join(spec.exchanges)}"
        )
    chosen = bars.filter(
        pl.col("session").is_between(*span), pl.col("exchange") == exchange if exchange else pl.lit(value=True)
    )
    if chosen.is_empty():
        raise NoData(
            f"no bars of {exchange or spec.name} from {span[0]} to {span[1]}",
            hint="name other dates or another --source; bars without a known exchange belong to none",
        )
    typed = chosen.select(pl.col(name).cast(dtype) for name, dtype in BARS.items()).sort(KEY)
    return Ground(spec, typed, actions.select(pl.col(name).cast(dtype) for name, dtype in ACTIONS.items()), notes)


def _cleaned(path: Path, mapping: Mapping, spec: MarketSpec, span: Span) -> tuple[dict[str, pl.DataFrame], str]:
    """Accepted rows of a file by dataset, and what happened to it in words."""
    end = datetime.combine(span[1], datetime.max.time()).replace(tzinfo=spec.zone).astimezone(UTC)
    payload = files.read(path, mapping, end)
    pulls = pl.DataFrame({"fetch_id": [payload.fetch_id], "provider": [mapping.provider]}).with_columns(
        fetched_at=pl.lit(payload.fetched_at, dtype=pl.Datetime("us", "UTC"))
    )
    accepted, told = {}, []
    for dataset, frame in FilesProvider(name=mapping.provider).parse(payload).frames.items():
        rows = frame.filter(pl.col("session").is_between(*span)) if dataset == "bars" else frame
        if rows.is_empty():
            continue
        cleaned = clean_raw(rows, pulls, spec, dataset)
        accepted[str(dataset)] = cleaned.accepted
        reasons = ", ".join(f"{reason} {count:,}" for reason, count in cleaned.reasons().items())
        told.append(
            f"{cleaned.accepted.height:,} {dataset}" + (f", set aside beforehand: {reasons}" if reasons else "")
        )
    return accepted, "; ".join(told) or "nothing of this market and time"


def _listed(bars: pl.DataFrame, instruments: pl.DataFrame) -> pl.DataFrame:
    """Bars with the exchange a listing names; before the listing it is unknown."""
    listed = (
        instruments.sort("symbol", "known_from")
        .unique("symbol", keep="last")
        .select("symbol", "listed", listed_on="exchange")
    )
    since = pl.col("listed").is_null() | (pl.col("session") >= pl.col("listed"))
    return (
        bars.join(listed, on="symbol", how="left", maintain_order="left")
        .with_columns(exchange=pl.coalesce("exchange", pl.when(since).then("listed_on")))
        .drop("listed", "listed_on")
    )
