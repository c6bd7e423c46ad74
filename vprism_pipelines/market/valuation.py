"""What a company is worth rests on four concepts: its shares, its net income, its revenue, its equity.

No two providers name or define figures alike. `CLAIMS` says which item of whom is which concept; whoever is not in it
is understood where it uses the concepts' own names. Of all that could be known on a day one figure of each is believed:
of the newest quarter; of that quarter the provider's that the market ranks highest; of that provider the newest day's;
of that day the first claim's. No figure is mixed of two providers.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Final, Literal
from zlib import crc32

import polars as pl

from vprism_pipelines.market.spec import MarketSpec

__all__ = ["CLAIMS", "CONCEPTS", "KNOWN", "Claim", "Concept", "fingerprint", "items", "known_figures"]

Concept = Literal["shares_outstanding", "net_income", "revenue", "equity"]
"""Shares in issue; what was earned for, and what belongs to, the shareholders of the parent; net sales."""

CONCEPTS: Final[tuple[Concept, ...]] = ("shares_outstanding", "net_income", "revenue", "equity")
KNOWN: Final = (*CONCEPTS, "mean_equity")
"""What a step says; `mean_equity` is the mean of the end of twelve months and of the day they began."""

_ANYBODY: Final = "*"
_OVER_TIME: Final = ("net_income", "revenue")  # of a period; the others are of a day
_POSITIVE: Final = ("shares_outstanding", "revenue")  # a zero is told of who reports it elsewhere
_MONTHS: Final = {"Q": (0, 3, 6, 9), "TTM": (0,), "Y": (0,)}  # of twelve: what is summed, in the order of trust
_REPEATED_DAYS: Final = 182
_REVISION: Final = 1  # of the code: another one where it chooses other figures


@dataclass(frozen=True, slots=True)
class Claim:
    """An item of a provider that is a concept; a provider's claims are in the order in which they are believed.

    Attributes:
        provider: `*`: whoever is in no other claim.
        item: In lower case; a provider's own spelling changes.
        less: An item of the same period to be taken off.
        per: How many of the item make one of the concept.
        note: Why this item.
    """

    provider: str
    concept: Concept
    item: str
    less: str | None = None
    per: float = 1.0
    note: str = ""


CLAIMS: Final[tuple[Claim, ...]] = (
    Claim("yahoo", "shares_outstanding", "sharesoutstanding", note="of the class that is quoted"),
    Claim("yahoo", "shares_outstanding", "ordinarysharesnumber", note="as filed: splits since are not in it"),
    Claim("yahoo", "net_income", "netincomecommonstockholders"),
    Claim("yahoo", "net_income", "netincome", note="before preferred dividends"),
    Claim("yahoo", "revenue", "totalrevenue"),
    Claim("yahoo", "equity", "stockholdersequity", note="without minorities"),
    Claim("alpha_vantage", "shares_outstanding", "sharesoutstanding"),
    Claim("alpha_vantage", "revenue", "revenuettm"),
    Claim("vci", "shares_outstanding", "numberofsharesmktcap", note="of the company on the day of the answer"),
    Claim("vci", "shares_outstanding", "bsa80", per=10_000.0, note="charter capital; the par value is 10,000 VND"),
    Claim("vci", "net_income", "isa22", note="attributable to the parent"),
    Claim("vci", "revenue", "isa3", note="net sales; 0 in the accounts of a bank or an insurer"),
    Claim("vci", "revenue", "isb38", note="a bank's total operating income"),
    Claim("vci", "revenue", "isi64", note="an insurer's net sales"),
    Claim("vci", "equity", "bsa78", less="bsa210", note="less minorities: what its book value per share is of"),
    Claim("tcbs", "shares_outstanding", "outstandingshare"),
    Claim("tcbs", "net_income", "shareholderincome"),
    Claim("tcbs", "revenue", "revenue"),
    *(Claim(_ANYBODY, concept, concept) for concept in CONCEPTS),
)


def items() -> list[str]:
    """Every item that is a concept to somebody, in lower case."""
    return sorted({item for claim in CLAIMS for item in (claim.item, claim.less) if item})


def fingerprint(spec: MarketSpec) -> int:
    """A number for how a market's figures are chosen: the claims, what is made of them, the order of its providers."""
    return crc32(repr((_REVISION, _recipes().rows(), spec.providers, spec.currency)).encode())


def known_figures(figures: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """What was known of each company since when: a row per symbol and day on which that changed.

    Net income and revenue are of twelve months: four consecutive quarters, all known by then, else the twelve months or
    the fiscal year as told. Amounts in another currency than the market's are not converted: they are not known.
    A count of shares that is only repeated, within half a year, refers to the day for which it was first told: who
    repeats a count after a split has not heard of it, or its new shares are not registered yet.

    Args:
        figures: Every version: symbol, provider, item (lower case), period_end, period_kind, statement, value,
            currency, visible_from (the day from which it could be known), known_from.
        spec: Their market, whose order of providers is the order of trust.

    Returns:
        symbol, since, and of each of `KNOWN` its value and `<name>_end`, the day that its period ends on; of shares the
        day that the count refers to. By symbol and since.
    """
    told = ("value", ""), ("period_end", "_end")
    columns = [pl.when(concept=name).then(column).alias(f"{name}{suffix}") for name in KNOWN for column, suffix in told]
    return (
        _changes(_believed(_complete(_parts(figures, spec)), spec))
        .sort("symbol", "visible_from")
        .select("symbol", *columns, since="visible_from")
        .with_columns(pl.exclude("symbol", "since").forward_fill().over("symbol"))
        .unique(["symbol", "since"], keep="last", maintain_order=True)
    )


@lru_cache(maxsize=1)
def _recipes() -> pl.DataFrame:
    """How each claim becomes a figure: a row per item that goes into it, of which kind of period, and how."""
    rows = []
    for number, (claim, concept, kinds, offsets, share) in enumerate(_ways()):
        signed = [(item, sign / claim.per) for item, sign in ((claim.item, share), (claim.less, -share)) if item]
        parts = [(months, *part) for months in offsets for part in signed]
        rows += [
            {
                "recipe": number,
                "concept": concept,
                "by_month": len(offsets) > 1,
                "parts": len(parts),
                "part": part,
                "speaker": claim.provider,
                "item": item,
                "period_kind": kind,
                "months": months,
                "sign": sign,
            }
            for part, (months, item, sign) in enumerate(parts)
            for kind in kinds
        ]
    return pl.DataFrame(rows)


def _ways() -> Iterator[tuple[Claim, str, tuple[str, ...], tuple[int, ...], float]]:
    """Claims, what they tell, from which kinds of periods, of how many months before, each with which share."""
    for claim in CLAIMS:
        if claim.concept in _OVER_TIME:
            for kind, months in _MONTHS.items():
                yield claim, claim.concept, (kind,), months, 1.0
        else:
            yield claim, claim.concept, ("D", "Q", "TTM", "Y"), (0,), 1.0
        if claim.concept == "equity":
            yield claim, "mean_equity", ("D", "Q", "TTM", "Y"), (0, 12), 0.5


def _parts(figures: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Every figure as a part of each recipe it goes into; `anchor` is the period that the recipe is then about."""
    listed = {claim.provider for claim in CLAIMS}
    # Fiscal periods of 52 weeks end some days before or after the end of a month.
    month = pl.col("period_end").dt.offset_by("-10d")
    return (
        figures.with_columns(
            speaker=pl.when(pl.col("provider").is_in(listed)).then("provider").otherwise(pl.lit(_ANYBODY)),
            month=month.dt.year() * 12 + month.dt.month(),
        )
        .join(_recipes(), on=["speaker", "item", "period_kind"])
        .filter((pl.col("concept") == "shares_outstanding") | (pl.col("currency") == spec.currency))
        .select(
            "symbol",
            "concept",
            "recipe",
            "provider",
            "part",
            "parts",
            "visible_from",
            "known_from",
            "period_kind",
            "statement",
            "period_end",
            anchor=pl.when("by_month")
            .then(pl.col("month") + pl.col("months"))
            .otherwise(pl.col("period_end").to_physical()),
            value=pl.col("value") * pl.col("sign"),
        )
    )


def _complete(parts: pl.DataFrame) -> pl.DataFrame:
    """Recipes of which all parts were known, on every day on which one of them changed."""
    key = ["symbol", "concept", "recipe", "provider", "anchor"]
    values = {f"value_{part}": pl.col("part") == part for part in _recipes()["part"].unique().sort()}
    return (
        parts.sort(*key, "visible_from", "known_from", "period_kind", "statement")
        .with_columns(
            *(pl.when(is_it).then("value").alias(name) for name, is_it in values.items()),
            period_end=pl.when(part=0).then("period_end"),
        )
        .with_columns(pl.col(*values, "period_end").forward_fill().over(key))
        .unique([*key, "visible_from"], keep="last", maintain_order=True)
        .filter(pl.sum_horizontal(pl.col(*values).is_not_null()) == pl.col("parts"))
        # Added in this order and no other: a sum of floats depends on it.
        .with_columns(value=pl.fold(pl.lit(0.0), lambda total, part: total + part, pl.col(*values).fill_null(0.0)))
        .filter((pl.col("value") > 0) | ~pl.col("concept").is_in(_POSITIVE))
    )


def _believed(complete: pl.DataFrame, spec: MarketSpec) -> pl.DataFrame:
    """Of what was known the figure that is believed, on every day on which that is another one."""
    ranks = pl.DataFrame(
        [(name, -spec.rank(name)) for name in complete["provider"].unique()],
        {"provider": pl.String, "rank": pl.Int64},
        orient="row",
    )
    day = pl.col("period_end").dt.offset_by("-10d")
    trust = pl.struct(
        quarter=day.dt.year() * 4 + day.dt.quarter(),
        rank="rank",
        # Providers the market does not rank share the last place.
        provider=pl.col("provider").rank("dense", descending=True),
        period_end="period_end",
        recipe=-pl.col("recipe"),
    )
    series = ["symbol", "concept"]
    return (
        complete.join(ranks, on="provider")
        .with_columns(trust=trust.rank("dense"))
        .sort(*series, "visible_from", "trust")
        .unique([*series, "visible_from"], keep="last", maintain_order=True)
        # What is known stays known: whatever is trusted less than what stood before changes nothing.
        .filter(pl.col("trust") == pl.col("trust").cum_max().over(series))
    )


def _changes(believed: pl.DataFrame) -> pl.DataFrame:
    """Without those that only repeat what stood before."""
    series = ["symbol", "concept"]
    since_told = pl.col("period_end") - pl.col("period_end").first().over(*series, "run")
    return (
        believed.with_columns(run=pl.col("value").rle_id().over(series))
        .with_columns(
            again=pl.when(concept="shares_outstanding")
            .then(since_told.dt.total_days() // _REPEATED_DAYS)
            .otherwise(pl.col("period_end").to_physical())
        )
        .unique([*series, "run", "again"], keep="first", maintain_order=True)
    )
