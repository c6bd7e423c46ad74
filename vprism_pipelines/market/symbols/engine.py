"""Resolution: peel qualifiers off, let every rule of the market read the code, decide between the readings."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass, replace
from datetime import date, timedelta
from functools import lru_cache

import polars as pl

from vprism_pipelines.errors import InvalidInput, UnknownSymbol
from vprism_pipelines.market.symbols.forms import FORMS, LOWER_US, Marker
from vprism_pipelines.market.symbols.rules import BARE, RULES, Reading
from vprism_pipelines.market.symbols.tables import aliases, names_by_spelling
from vprism_pipelines.market.symbols.terms import (
    ADVICE,
    ASSET_SPELLINGS,
    ASSETS,
    CacheInfo,
    Canonical,
    Code,
    Resolution,
)

_CANONICAL = re.compile(rf"(?P<market>[A-Z]{{2}}):(?P<asset>{'|'.join(ASSETS)}):(?P<code>.+)")
_ALPHABET = re.compile(r"[A-Z0-9 .:/_^-]{1,32}")
_CACHE = 1 << 16


def resolve(raw: str, *, market: str | None = None, asset: str | None = None, as_of: date | None = None) -> Resolution:
    """The canonical symbol of a raw one, or why there is none. Never raises for what `raw` says.

    Args:
        raw: Any vendor's spelling, in any case (but for Tencent's `usBRK.B`, whose lower-case prefix tells it from a
            ticker), with any blanks or zero-width characters around it.
        market: Market the symbol is known to be of (`us`, `CN`), in any case; None if only `raw` can tell.
        asset: Asset class it is known to be of (`stock`, `ETF`), in any case; None if unknown.
        as_of: Date on which `raw` was in use. Codes that were renamed since are followed to the present identifier
            (`FB` in 2015 is `US:STOCK:META`); without a date a code is taken as it stands.
    """
    return _resolve(raw, (market or "").strip().upper(), (asset or "").strip().upper(), as_of)


def resolve_strict(raw: str, *, market: str | None = None, asset: str | None = None, as_of: date | None = None) -> str:
    """Like `resolve`, but the canonical symbol itself.

    Raises:
        UnknownSymbol: `raw` cannot be resolved; `reason` in its context is the resolution's code.
    """
    found = resolve(raw, market=market, asset=asset, as_of=as_of)
    if found.symbol is None:
        raise UnknownSymbol(
            f"cannot resolve {raw!r}: {'; '.join(found.diagnostics[:-1]) or found.code}",
            hint=found.diagnostics[-1],
            reason=found.code,
            symbol=raw,
            market=market,
            asset=asset,
        )
    return found.symbol


def parse_canonical(symbol: str) -> Canonical:
    """The parts of a canonical symbol.

    Raises:
        UnknownSymbol: It is not one; the hint names the canonical spelling when there is one.
    """
    match = _CANONICAL.fullmatch(symbol)
    found = resolve(symbol).symbol if match else None
    if match is None or found != symbol:
        raise UnknownSymbol(
            f"{symbol!r} is not a canonical symbol",
            hint=f"use {found}" if found else "use MARKET:ASSET:CODE, as in US:STOCK:AAPL",
            symbol=symbol,
        )
    return Canonical(match["market"], match["asset"], match["code"])


def resolve_frame(
    frame: pl.DataFrame,
    *,
    column: str = "raw_symbol",
    market: str | None = None,
    asset: str | None = None,
    as_of: date | str | None = None,
) -> pl.DataFrame:
    """Resolve a column of raw symbols; each distinct spelling is worked out once.

    Args:
        frame: Any number of rows.
        column: Name of the string column with the raw symbols.
        market: As in `resolve`, for all rows.
        asset: As in `resolve`, for all rows.
        as_of: As in `resolve`: one date for all rows, or the name of a date column when each row was spelled on
            its own date (archives that keep the tickers of the day).

    Returns:
        `frame` in its order with `symbol`, `rule_id` and `unresolved_code` (all String) at the end. A row that cannot
        be resolved has a null `symbol` and says why in `unresolved_code`; a null raw symbol is `EMPTY`.

    Raises:
        InvalidInput: `column` or the date column does not exist, or `column` is one of the columns added.
    """
    added = ("symbol", "rule_id", "unresolved_code")
    needed = (column, as_of) if isinstance(as_of, str) else (column,)
    if column in added or not set(needed) <= set(frame.columns):
        raise InvalidInput(
            f"cannot resolve symbols from column {column!r}",
            hint=f"pass existing columns, none of them named {', '.join(added)}",
            needed=", ".join(needed),
            columns=", ".join(frame.columns),
        )
    # Between two days on which any renaming starts or ends every spelling means the same, so (spelling, period)
    # is the key, not (spelling, day).
    days = _renaming_days()
    if isinstance(as_of, str):
        at = frame[as_of].cast(pl.Date)
        index = pl.Series(days, dtype=pl.Date).search_sorted(at, side="right")
        period = pl.select(pl.when(at.is_not_null()).then(index.cast(pl.Int64))).to_series()
        starts: dict[int | None, date | None] = dict(enumerate((date.min, *days)))
    else:
        period = pl.repeat(0, frame.height, dtype=pl.Int64, eager=True)
        starts = {0: as_of}
    rows = pl.DataFrame({"raw": frame[column].cast(pl.String), "period": period})
    keys = rows.unique()
    answers = [
        resolve(raw or "", market=market, asset=asset, as_of=starts.get(start)) for raw, start in keys.iter_rows()
    ]
    answered = keys.with_columns(
        pl.Series("symbol", [answer.symbol for answer in answers], dtype=pl.String),
        pl.Series("rule_id", [answer.rule_id for answer in answers], dtype=pl.String),
        pl.Series("unresolved_code", [answer.code for answer in answers], dtype=pl.String),
    )
    found = rows.join(answered, on=["raw", "period"], how="left", nulls_equal=True, maintain_order="left")
    return frame.drop(added, strict=False).with_columns(found.get_column(name) for name in added)


def cache_info() -> CacheInfo:
    """Statistics of the resolution cache."""
    hits, misses, capacity, size = _resolve.cache_info()
    return CacheInfo(hits, misses, size, capacity or _CACHE)


# --- how it works ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Failure:
    code: Code
    reasons: tuple[str, ...] = ()


@lru_cache(maxsize=_CACHE)
def _resolve(raw: str, market: str, asset: str, as_of: date | None) -> Resolution:
    written = _clean(raw)
    # Upper-casing could turn other letters into ASCII ones (ß -> SS); left as they are, the alphabet refuses them.
    text = written.upper() if written.isascii() else written
    marks: tuple[Marker, ...] = ()
    answer: tuple[str, str] | _Failure
    if not text:
        answer = _Failure("EMPTY")
    elif asset and asset not in ASSET_SPELLINGS:
        answer = _Failure("ASSET_UNSUPPORTED", (f"no asset class {asset}",))
    elif not _ALPHABET.fullmatch(text):
        answer = _Failure("PATTERN", (f"{text!r} is too long or has characters no symbol has",))
    else:
        tencent = LOWER_US.read(written)
        marks, code = ((tencent[0],), tencent[1]) if tencent else _peel(text)
        answer = _decide(code, market, ASSET_SPELLINGS.get(asset), marks)
    read = tuple(f"{mark.rule_id}: {_describe(mark)}" for mark in marks)
    if isinstance(answer, _Failure):
        diagnostics = (*read, *answer.reasons, ADVICE[answer.code])
        return Resolution(raw, None, "unresolved", answer.code, None, diagnostics)
    symbol, rule_id = answer
    return _follow(Resolution(raw, symbol, "resolved", None, rule_id, (*read, f"{rule_id}: {symbol}")), as_of)


def _clean(raw: str) -> str:
    """Compatibility forms folded, format characters dropped, blanks collapsed."""
    folded = unicodedata.normalize("NFKC", raw)
    visible = "".join(char for char in folded if unicodedata.category(char) != "Cf")
    return " ".join(visible.split())


def _describe(mark: Marker) -> str:
    parts = {"market": mark.market, "exchange": "/".join(mark.exchanges), "asset": mark.asset}
    return ", ".join(f"{key} {value}" for key, value in parts.items() if value)


def _peel(text: str) -> tuple[tuple[Marker, ...], str]:
    """The qualifiers of a spelling, outermost first, and the bare code."""
    marks: tuple[Marker, ...] = ()
    while found := _outermost(text):
        mark, text = found
        marks = (*marks, mark)
        if mark.closed and _read(mark.market or "", text):
            break
    return marks, text


def _outermost(text: str) -> tuple[Marker, str] | None:
    if match := _CANONICAL.fullmatch(text):
        return Marker(match["market"], (), match["asset"], "form.canonical", closed=True), match["code"].strip()
    if found := next(filter(None, (form.read(text) for form in FORMS)), None):
        return found
    caret = text.startswith("^")
    if not caret and "." not in text:
        return None
    known = [
        name
        for spelling in dict.fromkeys((text, text.removeprefix("^")))
        for name in names_by_spelling().get(spelling, {}).values()
        if name.asset == "INDEX"
    ]
    if len({name.market for name in known}) == 1:
        return Marker(known[0].market, (), "INDEX", "form.name"), known[0].code
    return (Marker(None, (), "INDEX", "form.caret"), text[1:]) if caret else None


def _read(market: str, code: str) -> list[Reading]:
    """Everything a code can be in a market."""
    code = BARE.get(market, str)(code)
    name = names_by_spelling().get(code, {}).get(market)
    rules = (*RULES.get(market, ()), *((name.rule,) if name else ()))
    return [reading for rule in rules if (reading := rule.read(code))]


def _decide(code: str, hint: str, asset: str | None, marks: tuple[Marker, ...]) -> tuple[str, str] | _Failure:
    """The canonical symbol and the rule that gave it."""
    markets = {mark.market for mark in marks if mark.market} | ({hint} if hint else set())
    if unsupported := markets - set(RULES):
        return _Failure("MARKET_UNSUPPORTED", (f"no market {', '.join(sorted(unsupported))}",))
    if len(markets) > 1:
        return _Failure("MARKET_CONFLICT", (f"markets named: {', '.join(sorted(markets))}",))
    if not markets:
        return _Failure("MARKET_REQUIRED", (f"{code!r} names no market",))
    (market,) = markets
    assets = {mark.asset for mark in marks if mark.asset} | ({asset} if asset else set())
    if len(assets) > 1:
        return _Failure("ASSET_CONFLICT", (f"assets named: {', '.join(sorted(assets))}",))
    listed = [mark.exchanges for mark in marks if mark.exchanges]
    readings = _read(market, code)
    said = tuple(f"{one.rule.rule_id} reads {code} as {'/'.join(one.rule.assets)}" for one in readings)
    wanted = assets.pop() if assets else None
    fit = [one for one in readings if (wanted in one.rule.assets if wanted else one.rule.implied != "no")]
    if not fit:
        conflict = wanted and any(one.rule.excludes for one in readings)
        return _Failure("ASSET_CONFLICT" if conflict else "PATTERN", said or _tried(market))
    fit = [one for one in fit if all(one.rule.exchange in exchanges for exchanges in listed)]
    if not fit:
        return _Failure("EXCHANGE_CONFLICT", said)
    first = min(one.rule.priority for one in fit)
    best = {one.symbol(wanted): one.rule.rule_id for one in fit if one.rule.priority == first}
    if len(best) > 1 or (not wanted and any(one.rule.implied == "doubt" for one in fit)):
        return _Failure("AMBIGUOUS_ASSET", said)
    return best.popitem()


def _tried(market: str) -> tuple[str, ...]:
    return (f"tried {', '.join(rule.rule_id for rule in RULES[market])} and the names of {market}",)


def _follow(found: Resolution, as_of: date | None) -> Resolution:
    """The present identifier of an instrument that was renamed."""
    for alias in aliases().get(found.symbol or "", ()):
        if as_of is None:
            note = f"{alias.rule_id}: {alias.symbol} since {alias.renamed_on}; pass as_of to follow the renaming"
            return replace(found, diagnostics=(*found.diagnostics, note))
        if alias.covers(as_of):
            note = f"{alias.rule_id}: renamed {alias.symbol} on {alias.renamed_on}"
            return replace(found, symbol=alias.symbol, rule_id=alias.rule_id, diagnostics=(*found.diagnostics, note))
    return found


@lru_cache(maxsize=1)
def _renaming_days() -> tuple[date, ...]:
    """The days on which the meaning of some code changes, in order."""
    every = [alias for listed in aliases().values() for alias in listed]
    starts = {alias.valid_from for alias in every if alias.valid_from > date.min}
    ends = {alias.valid_to + timedelta(days=1) for alias in every if alias.valid_to < date.max}
    return tuple(sorted(starts | ends))
