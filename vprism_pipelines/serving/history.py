"""What was believed when: every version of one bar with its origin, and what changed between two instants.

The library's `history` and `diff` are these functions over the published snapshot.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, Literal, get_args

import polars as pl

from vprism_pipelines.errors import InvalidInput, InvalidRange

__all__ = ["FIELDS", "Diff", "Field", "Span", "diff", "field_of", "span", "versions"]

Field = Literal["open", "high", "low", "close", "volume", "value", "adj_close"]
FIELDS: tuple[Field, ...] = get_args(Field)
_GOLDEN = ("open", "high", "low", "close", "volume", "value")
_BP_DIGITS = 6

Sql = Callable[..., pl.DataFrame]
"""Runs a statement with parameters on the published snapshot."""
Believed = Callable[[list[str], datetime, Literal["raw", "qfq"]], pl.DataFrame]
"""(symbols, instant, basis) -> golden bars as believed then."""


# --- one bar ----------------------------------------------------------------------------------------------------------


def field_of(name: str) -> Field:
    """The field of a bar with this name.

    Raises:
        InvalidInput: There is none.
    """
    wanted = name.strip().lower()
    found = next((known for known in FIELDS if known == wanted), None)
    if found is None:
        raise InvalidInput(f"a bar has no field {name!r}", hint=f"use one of: {', '.join(FIELDS)}")
    return found


def versions(sql: Sql, symbol: str, session: date, field: Field | None) -> pl.DataFrame:
    """All versions of a bar; see `Library.history`."""
    values = ("open", "high", "low", "close", "volume", "value", "adj_close") if field is None else (field,)
    shown = ", ".join(f"l.{name}" for name in values)
    main = field or "close"
    return sql(
        f"""SELECT l.provider, l.known_from, l.known_to, l.change_class, {shown},
                   round((l.{main} / lag(l.{main}) OVER w - 1) * 1e4, {_BP_DIGITS}) AS bp,
                   coalesce(g.chosen_provider = l.provider AND g.known_from = l.known_from, false) AS golden,
                   l.price_basis, l.provisional, l.fetch_id, l.payload_row, f.status, f.sha256, f.parser_version,
                   f.lake_path
            FROM clean.bars_ledger AS l
            LEFT JOIN golden.bars AS g ON g.symbol = l.symbol AND g.session = l.session
            LEFT JOIN raw.fetches AS f ON f.fetch_id = l.fetch_id
            WHERE l.symbol = $symbol AND l.session = $session
            WINDOW w AS (PARTITION BY l.provider ORDER BY l.known_from)
            ORDER BY l.provider, l.known_from""",
        {"symbol": symbol, "session": session},
    )


# --- two instants -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Span:
    """From one state of belief (exclusive) to another (inclusive)."""

    before: datetime
    after: datetime


@dataclass(frozen=True, slots=True)
class Diff:
    """What changed between two instants.

    Attributes:
        span: The instants.
        cells: level (ledger: what a provider says; golden: what we believe), symbol, session, field, provider, old,
            new, bp (change in basis points; null where there is none), change_class. Sessions that only became known
            in between are no change.
        returns: symbol, session, before, after (returns of the adjusted close over the symbol's bar before), bp
            (their difference); the sessions whose return is another one.
        summary: One row: added, changed (bars in the ledger), symbols, golden_bars, golden_symbols, returns,
            largest_bp and largest_symbol, largest_session (golden close), largest_return_bp, and `classes` (changed
            bars by class).
    """

    span: Span
    cells: pl.DataFrame
    returns: pl.DataFrame
    summary: pl.DataFrame


def span(sql: Sql, before: datetime | date | str | int, after: datetime | date | str | int) -> Span:
    """The instants that two descriptions mean.

    Args:
        sql: The published snapshot.
        before: An instant with its offset, the number of a snapshot (when it was published), or a date (the end of
            that day, UTC).
        after: Likewise.

    Raises:
        InvalidRange: One cannot be read, or they are in the wrong order.
    """
    first, second = _instant(sql, before), _instant(sql, after)
    if first >= second:
        raise InvalidRange(f"{before} is not before {after}", hint="name the older one first")
    return Span(first, second)


def diff(sql: Sql, believed: Believed, when: Span, *, prefix: str = "", symbols: Sequence[str] = ()) -> Diff:
    """What changed between two instants.

    Args:
        sql: The published snapshot.
        believed: Golden bars as of an instant.
        when: The instants.
        prefix: Only symbols of this market; empty: all.
        symbols: Only these; empty: all.
    """
    scope = {"t1": when.before, "t2": when.after, "symbols": list(symbols), "prefix": f"{prefix}:" if prefix else ""}
    ledger = sql(_LEDGER, scope)
    added = sql(_ADDED, scope)["added"].item()
    said = _melted(ledger, FIELDS).with_columns(level=pl.lit("ledger"))
    # Factors move returns where no bar moved.
    moved = sorted({*said["symbol"], *sql(_ACTIONS, scope)["symbol"]})
    golden, returns = _golden(believed, moved, when, said)
    cells = pl.concat([golden, said.select(golden.columns)]).sort("level", "symbol", "session", "field", "provider")
    return Diff(when, cells, returns, _summary(said, added, golden, returns))


# Rows that were believed at only one of the two instants; a version that came and went in between is none of them.
_SCOPE = """(len($symbols) = 0 OR list_contains($symbols, symbol)) AND starts_with(symbol, $prefix)"""
_LEDGER = f"""
    WITH old AS (FROM clean.bars_ledger
                 WHERE known_from <= $t1 AND known_to > $t1 AND known_to <= $t2 AND {_SCOPE}),
         new AS (FROM clean.bars_ledger
                 WHERE known_from > $t1 AND known_from <= $t2 AND change_class <> 'new'
                   AND (known_to IS NULL OR known_to > $t2) AND {_SCOPE})
    SELECT symbol, session, provider, n.change_class,
           {", ".join(f"o.{name}::DOUBLE AS old_{name}, n.{name}::DOUBLE AS {name}" for name in FIELDS)}
    FROM old AS o JOIN new AS n USING (symbol, session, provider)
"""
_ADDED = f"""
    SELECT count(*) AS added FROM clean.bars_ledger
    WHERE known_from > $t1 AND known_from <= $t2 AND change_class = 'new' AND {_SCOPE}
"""
_ACTIONS = f"""
    SELECT DISTINCT symbol FROM clean.corporate_actions_ledger
    WHERE (known_from > $t1 AND known_from <= $t2 OR known_to > $t1 AND known_to <= $t2) AND {_SCOPE}
"""


def _melted(frame: pl.DataFrame, fields: Sequence[str]) -> pl.DataFrame:
    """One row per changed field, from columns `<field>` and `old_<field>`."""
    parts = [
        frame.filter(pl.col(name).ne_missing(pl.col(f"old_{name}"))).select(
            "symbol",
            "session",
            "provider",
            "change_class",
            field=pl.lit(name),
            old=pl.col(f"old_{name}").cast(pl.Float64),
            new=pl.col(name).cast(pl.Float64),
        )
        for name in fields
    ]
    ratio = pl.when(pl.col("old") != 0).then(pl.col("new") / pl.col("old"))
    return pl.concat(parts).with_columns(bp=((ratio - 1) * 1e4).round(_BP_DIGITS))


def _golden(
    believed: Believed, symbols: list[str], when: Span, said: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Changed cells of the golden bars, and changed returns."""
    columns = ["level", "symbol", "session", "field", "provider", "old", "new", "bp", "change_class"]
    if not symbols:
        empty = said.with_columns(level=pl.lit("golden")).select(columns)
        return empty.clear(), _returns(None, None)
    key = ["symbol", "session"]
    before, after = believed(symbols, when.before, "raw"), believed(symbols, when.after, "raw")
    both = after.select(*key, *_GOLDEN).join(
        before.select(*key, *(pl.col(name).alias(f"old_{name}") for name in _GOLDEN)), on=key
    )
    nobody = {"provider": pl.lit(None, pl.String), "change_class": pl.lit(None, pl.String)}
    changed = _melted(both.with_columns(**nobody), _GOLDEN).drop("provider", "change_class")
    # Who brought the value; nobody, where the vote went to another provider that had said so before.
    origin = said.select(*key, "field", "new", "provider", "change_class").unique([*key, "field", "new"])
    cells = changed.join(origin, on=[*key, "field", "new"], how="left").with_columns(level=pl.lit("golden"))
    adjusted = [believed(symbols, instant, "qfq") for instant in (when.before, when.after)]
    return cells.select(columns), _returns(*adjusted)


def _returns(before: pl.DataFrame | None, after: pl.DataFrame | None) -> pl.DataFrame:
    """Sessions known at both instants whose return changed."""
    if before is None or after is None:
        types = {"symbol": pl.String, "session": pl.Date, "before": pl.Float64, "after": pl.Float64, "bp": pl.Float64}
        return pl.DataFrame(schema=types)
    one, other = (
        bars.sort("symbol", "session")
        .select("symbol", "session", (pl.col("close") / pl.col("close").shift(1).over("symbol") - 1).alias(name))
        .drop_nulls()
        for name, bars in (("before", before), ("after", after))
    )
    both = one.join(other, on=["symbol", "session"])
    apart = both.with_columns(bp=((pl.col("after") - pl.col("before")) * 1e4).round(_BP_DIGITS))
    return apart.filter(pl.col("bp") != 0).sort("symbol", "session")


def _summary(said: pl.DataFrame, added: int, golden: pl.DataFrame, returns: pl.DataFrame) -> pl.DataFrame:
    closes = golden.filter(pl.col("field") == "close").sort(pl.col("bp").abs(), descending=True, nulls_last=True)
    largest: dict[str, Any] = closes.row(0, named=True) if closes.height else {}
    bars = said.unique(["symbol", "session", "provider"])
    classes = bars["change_class"].value_counts().sort("count", "change_class", descending=[True, False])
    return pl.DataFrame(
        {
            "added": [added],
            "changed": [bars.height],
            "symbols": [bars["symbol"].n_unique()],
            "golden_bars": [golden.select("symbol", "session").n_unique()],
            "golden_symbols": [golden["symbol"].n_unique()],
            "returns": [returns.height],
            "largest_bp": [largest.get("bp")],
            "largest_symbol": [largest.get("symbol")],
            "largest_session": [largest.get("session")],
            "largest_return_bp": [returns["bp"].abs().max()],
            "classes": [", ".join(f"{name} {count:,}" for name, count in classes.iter_rows())],
        },
        schema_overrides={
            "largest_bp": pl.Float64,
            "largest_symbol": pl.String,
            "largest_session": pl.Date,
            "largest_return_bp": pl.Float64,
        },
    )


def _instant(sql: Sql, given: datetime | date | str | int) -> datetime:
    text = given.strip() if isinstance(given, str) else given
    if isinstance(text, int) or (isinstance(text, str) and text.isdecimal() and len(text) < 8):
        return _published(sql, int(text))
    if isinstance(text, str):
        try:
            text = date.fromisoformat(text) if "-" in text and len(text) == 10 else datetime.fromisoformat(text)
        except ValueError:
            raise _unreadable(given) from None
    if not isinstance(text, datetime):
        return datetime.combine(text + timedelta(days=1), time(), UTC) - timedelta(microseconds=1)
    if text.tzinfo is None:
        raise _unreadable(given)
    return text


def _unreadable(given: object) -> InvalidRange:
    return InvalidRange(
        f"{given} is neither an instant, nor a date, nor a snapshot",
        hint="write 2024-01-31T16:00:00Z, 2024-01-31 (the end of that day, UTC) or the number of a snapshot",
    )


def _published(sql: Sql, number: int) -> datetime:
    found = sql("SELECT published_at FROM ops.snapshots WHERE snapshot = ?", [number])
    if found.is_empty():
        newest = sql("SELECT max(snapshot) AS newest FROM ops.snapshots")["newest"].item()
        raise InvalidRange(f"there is no snapshot {number}", hint=f"the newest one is {newest}; see ops.snapshots")
    instant: datetime = found["published_at"].item()
    return instant
