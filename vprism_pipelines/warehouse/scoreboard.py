"""The whole check set on one frame of bars, and its score on faults injected into them.

A frame goes the way of a delivery: row checks as on reading, window checks on what they accept, blocks of symbols and
sessions, units and dates of the whole, missing bars. The provider is one nobody else contradicts: what comparing
providers would find besides is not counted.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from functools import partial

import polars as pl

from vprism_pipelines.market.calendars import market_sessions
from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.providers.faults import FAULTS, Faults
from vprism_pipelines.quality import scoreboard
from vprism_pipelines.quality.alignment import date_shift, unit_suspects
from vprism_pipelines.quality.blocks import blocks
from vprism_pipelines.quality.scoreboard import FOUND
from vprism_pipelines.quality.window_checks import WINDOW_CHECKS
from vprism_pipelines.quality.windows import examine
from vprism_pipelines.tables import RAW_BARS
from vprism_pipelines.warehouse.grounds import Ground
from vprism_pipelines.warehouse.ingest import clean_raw

__all__ = ["Scoreboard", "findings", "measure"]

KEY = ["symbol", "session"]
DELIVERY = "scoreboard"  # names the only pull and the only provider
TOGETHER = "all classes"

Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, slots=True)
class Scoreboard:
    """What the checks are worth on some bars.

    Attributes:
        faults: A row per class of faults; columns of `quality.scoreboard.by_fault`. Each class was injected alone.
        recall: The same by check; columns of `quality.scoreboard.recall`.
        checks: A row per check that fires, and per severity: columns of `quality.scoreboard.precision`, on bars with
            all classes at once, and of `quality.scoreboard.false_positives`, on undamaged ones.
        bars, symbols: What was examined.
    """

    faults: pl.DataFrame
    recall: pl.DataFrame
    checks: pl.DataFrame
    bars: int
    symbols: int


def measure(
    ground: Ground,
    *,
    seed: int,
    rate: float = 0.01,
    classes: Sequence[str] = tuple(FAULTS),
    progress: Progress | None = None,
) -> Scoreboard:
    """Injects each class of faults alone, then all at once, and scores the check set on each frame.

    Args:
        ground: The bars that count as true.
        seed: Of the damage.
        rate: Share of the bars that each frame has damaged.
        classes: Names in `providers.faults.FAULTS`.
        progress: Told before each frame: its name, how many are done, how many there are.

    Raises:
        InvalidInput: The rate or a class makes no sense.
    """
    recipes = {name: Faults(seed, rate, (name,)) for name in classes} | {TOGETHER: Faults(seed, rate, tuple(classes))}
    told = progress or (lambda _what, _done, _total: None)
    check = partial(findings, actions=ground.actions, spec=ground.spec)
    told("undamaged", 0, len(recipes) + 1)
    clean = check(ground.bars)
    recalls = []
    for done, (name, recipe) in enumerate(recipes.items(), 1):
        told(name, done, len(recipes) + 1)
        faulty, labels = recipe.inject(ground.bars)
        found, where = check(faulty), scoreboard.places(labels, ground.bars)
        if name == TOGETHER:
            precise = scoreboard.precision(where, found, clean)
        else:
            recalls.append(scoreboard.recall(where, scoreboard.new(found, clean)))
    measured = pl.concat(recalls)
    checks = precise.join(
        scoreboard.false_positives(clean, ground.bars), on=["check", "severity"], how="left", maintain_order="left"
    ).with_columns(pl.col("findings", "rows", "per_million").fill_null(0))
    return Scoreboard(
        scoreboard.by_fault(measured), measured, checks, ground.bars.height, ground.bars["symbol"].n_unique()
    )


def findings(bars: pl.DataFrame, *, actions: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Everything the check set says of a frame of daily bars as delivered.

    Args:
        bars: symbol, session, open, high, low, close (currency units), volume (shares), value, currency, exchange
            (on that date; null: unknown). May hold any fault, a bar twice too.
        actions: symbol, ex_date, ref_price: the corporate actions that are known.
        spec: Whose market it is.

    Returns:
        `quality.scoreboard.FOUND`.
    """
    if bars.is_empty():
        return pl.DataFrame(schema=FOUND)
    days = market_sessions(spec, *_reach(bars))
    raw = bars.with_row_index("row").select(
        pl.lit(DELIVERY).alias("fetch_id"),
        "row",
        pl.col("symbol").alias("raw_symbol"),
        *("session", "open", "high", "low", "close", "volume", "value", "currency", "exchange"),
        pl.lit("raw").alias("price_basis"),
        *(pl.lit(1.0).alias(name) for name in ("price_unit", "volume_unit", "value_unit", "basis_factor")),
        adj_close=pl.lit(None),
        live=pl.lit(value=False),
    )
    pulled = datetime.combine(_reach(bars)[1] + timedelta(days=7), time())
    pulls = pl.DataFrame({"fetch_id": [DELIVERY], "provider": [DELIVERY], "fetched_at": [pulled]}).with_columns(
        pl.col("fetched_at").dt.replace_time_zone("UTC").cast(pl.Datetime("us", "UTC"))
    )
    cleaned = clean_raw(RAW_BARS.conform(raw), pulls, spec, "bars")
    accepted = cleaned.accepted
    examined = examine(
        accepted.select(*KEY, "exchange", "open", "high", "low", "close", "volume", "value").with_columns(
            traded=pl.lit(None, dtype=pl.Boolean)
        ),
        actions,
        days.select("session").unique(),
        spec,
    )
    shifted = date_shift(bars, days).filter(pl.col("verdict") == "SHIFTED")
    nowhere = pl.lit(None, dtype=pl.String)
    parts = [
        cleaned.quarantined.explode("reasons").select(
            check="reasons", severity=pl.lit("QUARANTINE"), symbol="raw_symbol", session="session"
        ),
        *(
            examined.filter(check.name).with_columns(check=pl.lit(check.name), severity=pl.lit(str(check.severity)))
            for check in WINDOW_CHECKS.values()
        ),
        blocks(examined).select("check", *KEY, severity=pl.lit("BLOCK")),
        unit_suspects(accepted, spec).with_columns(
            check=pl.lit("unit_suspects"), severity=pl.lit("BLOCK"), session=nowhere
        ),
        shifted.with_columns(check=pl.lit("date_shift"), severity=pl.lit("BLOCK"), symbol=nowhere, session=nowhere),
        _missing(bars, days, spec).with_columns(check=pl.lit("completeness"), severity=pl.lit("FLAG")),
    ]
    return pl.concat(part.select(pl.col(name).cast(dtype) for name, dtype in FOUND.items()) for part in parts).unique()


def _reach(bars: pl.DataFrame) -> tuple[date, date]:
    first, last = bars.select(first=pl.col("session").min(), last=pl.col("session").max()).row(0)
    return first, last


def _missing(bars: pl.DataFrame, days: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Sessions of a symbol's exchange between its first and last bar on which it has none (D1, bar by bar)."""
    spans = bars.group_by("symbol").agg(
        first=pl.col("session").min(),
        last=pl.col("session").max(),
        exchange=pl.col("exchange").sort_by("session").drop_nulls().last(),
    )
    return (
        spans.with_columns(pl.col("exchange").fill_null(next(iter(spec.exchanges))))
        .join(days.select("exchange", "session"), on="exchange")
        .filter(pl.col("session").is_between("first", "last"))
        .join(bars.select(KEY), on=KEY, how="anti")
        .select(KEY)
    )
