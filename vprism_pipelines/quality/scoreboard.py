"""How good the checks are: what they find of faults whose truth is known, and what they say of bars nobody damaged.

A check counts as having found a fault only at the place of the damage, and only if it was silent there before the
damage was done. Real history has errors of its own, so what fires on the undamaged bars is reported beside it, and
not called false: it is an upper bound of what is.

    >>> where = places(labels, bars)
    >>> by_fault(recall(where, new(found, clean)))
"""

from __future__ import annotations

from collections.abc import Sequence

import polars as pl

from vprism_pipelines.quality.alignment import require_columns

__all__ = ["FOUND", "SEVERITIES", "by_fault", "false_positives", "new", "places", "precision", "recall"]

SEVERITIES = ("BLOCK", "QUARANTINE", "FLAG", "INFO")
"""Gravest first."""

FOUND = pl.Schema(
    {
        "check": pl.String(),
        "severity": pl.String(),  # of `SEVERITIES`
        "symbol": pl.String(),  # null: every symbol of the session
        "session": pl.Date(),  # null: the whole history of the symbol
    }
)
"""One row per check and place; both places null: the whole delivery."""

KEY = ["symbol", "session"]
ALL = "*"
_DIGITS = 12
_MILLION = 1e6
_NAMED_CHECKS = 3
_RANK = pl.col("severity").replace_strict(
    {severity: rank for rank, severity in enumerate(SEVERITIES)}, default=len(SEVERITIES), return_dtype=pl.Int64
)
_ORDER = (pl.col("check") == ALL, _RANK, pl.col("check"))


def places(labels: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """Where a finding must point to count: the incidents of known faults and the keys that belong to each.

    An incident is a wrong bar, or a run of neighbouring bars of one symbol that are wrong in one way. Its places are
    the keys where its bars stand and those where they should stand. A run has one more, the bar after it: a series
    that is off by a factor up to an ex-date is wrong in its steps, and the last step is on the ex-date.

    Args:
        labels: symbol, session (of the true bar), fault, seen_session (where it stands; null: nowhere); any number of
            rows for a bar.
        bars: symbol, session of every true bar, each once.

    Returns:
        fault, incident (number), bars (in the incident), symbol, session; ordered by incident and session.

    Raises:
        ContractViolation: A column is missing.
    """
    require_columns(labels, [*KEY, "fault", "seen_session"], "labels")
    require_columns(bars, KEY, "bars")
    numbered = (
        bars.select(KEY)
        .sort(KEY)
        .with_row_index("place")
        .with_columns(following=pl.col("session").shift(-1).over("symbol"))
    )
    damaged = (
        labels.group_by(*KEY, "fault").agg(pl.col("seen_session").first()).join(numbered, on=KEY).sort("fault", "place")
    )
    goes_on = (
        (pl.col("place").cast(pl.Int64).diff() == 1)
        & (pl.col("symbol") == pl.col("symbol").shift(1))
        & (pl.col("fault") == pl.col("fault").shift(1))
    )
    damaged = damaged.with_columns(incident=(~goes_on.fill_null(False)).cum_sum()).with_columns(
        bars=pl.len().over("incident").cast(pl.Int64),
        last=pl.col("place") == pl.col("place").max().over("incident"),
    )
    belongs = ["fault", "incident", "bars", "symbol"]
    return (
        pl.concat(
            [
                damaged.select(*belongs, "session"),
                damaged.select(*belongs, session="seen_session"),
                damaged.filter("last", pl.col("bars") > 1).select(*belongs, session="following"),
            ]
        )
        .drop_nulls("session")
        .unique()
        .sort("incident", "session")
    )


def new(found: pl.DataFrame, clean: pl.DataFrame) -> pl.DataFrame:
    """What fires because of the damage.

    Args:
        found: `FOUND`, on the damaged bars.
        clean: `FOUND`, on the same bars before.

    Returns:
        Those rows of `found` that are not in `clean`.
    """
    return found.join(clean, on=found.columns, how="anti", nulls_equal=True)


def recall(where: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """The share of incidents that each check finds, and the checks together.

    Args:
        where: From `places`.
        found: `FOUND`, what fires because of the damage; see `new`. A finding about a whole symbol or session counts
            for every incident in it.

    Returns:
        fault, check, severity, incidents, bars (damaged), found (incidents), recall. Under the check "*" all checks
        of that severity and graver ones; ordered by fault, the checks together first. A check that finds nothing of a
        fault has no row.
    """
    totals = (
        where.unique(["fault", "incident"])
        .group_by("fault")
        .agg(incidents=pl.len().cast(pl.Int64), bars=pl.col("bars").sum())
    )
    hits = _hits(where, found).select("fault", "incident", "check", "severity").unique()
    count = pl.col("incident").n_unique().cast(pl.Int64).alias("found")
    single = hits.group_by("fault", "check", "severity").agg(count)
    together = [
        totals.select("fault", check=pl.lit(ALL), severity=pl.lit(severity)).join(
            hits.filter(pl.col("severity").is_in(SEVERITIES[: rank + 1])).group_by("fault").agg(count),
            on="fault",
            how="left",
        )
        for rank, severity in enumerate(SEVERITIES)
    ]
    return (
        pl.concat([*together, single])
        .with_columns(pl.col("found").fill_null(0))
        .join(totals, on="fault")
        .with_columns(recall=(pl.col("found") / pl.col("incidents")).round(_DIGITS))
        .sort("fault", pl.col("check") != ALL, _RANK, pl.col("found"), "check", descending=[False] * 3 + [True, False])
        .select("fault", "check", "severity", "incidents", "bars", "found", "recall")
    )


def by_fault(measured: pl.DataFrame) -> pl.DataFrame:
    """One row a class of faults, for people.

    Args:
        measured: From `recall`.

    Returns:
        fault, incidents, bars, stopped (share found by a BLOCK or QUARANTINE), flagged (by a FLAG or graver), found
        (by any check), by (the checks that find most, with their own recall).
    """
    shares = {"stopped": "QUARANTINE", "flagged": "FLAG", "found": "INFO"}
    named = (
        measured.filter(pl.col("check") != ALL)
        .sort("recall", "check", descending=[True, False])
        .group_by("fault")
        .agg(by=pl.format("{} {} %", "check", (pl.col("recall") * 100).round(1)).head(_NAMED_CHECKS).str.join(", "))
    )
    return (
        measured.filter(pl.col("check") == ALL)
        .group_by("fault", "incidents", "bars")
        .agg(
            pl.col("recall").filter(pl.col("severity") == severity).first().alias(name)
            for name, severity in shares.items()
        )
        .join(named, on="fault", how="left")
        .sort("fault")
    )


def precision(where: pl.DataFrame, found: pl.DataFrame, clean: pl.DataFrame) -> pl.DataFrame:
    """How many of a check's findings point at damage.

    Args:
        where: From `places`.
        found: `FOUND`, on the damaged bars.
        clean: `FOUND`, on the same bars before.

    Returns:
        check, severity, fired (findings), fired_before (of them there before the damage: real errors or false
        alarms), hits (new ones at a damaged place), precision (hits / new ones; null: none), precision_all
        (hits / fired: as if everything before were false). Check and severity "*" as in `false_positives`; a place
        counts once there, however many checks name it.
    """
    found, clean = _with_totals(found), _with_totals(clean)
    fresh = new(found, clean).with_row_index("finding")
    struck = _hits(where, fresh)["finding"].unique()
    counted = fresh.group_by("check", "severity").agg(
        new=pl.len(), hits=pl.col("finding").is_in(struck.implode()).sum().cast(pl.Int64)
    )
    return (
        found.group_by("check", "severity")
        .agg(fired=pl.len().cast(pl.Int64))
        .join(counted, on=["check", "severity"], how="left")
        .with_columns(pl.col("new", "hits").fill_null(0))
        .select(
            "check",
            "severity",
            "fired",
            (pl.col("fired") - pl.col("new")).alias("fired_before"),
            "hits",
            pl.when(pl.col("new") > 0).then((pl.col("hits") / pl.col("new")).round(_DIGITS)).alias("precision"),
            (pl.col("hits") / pl.col("fired")).round(_DIGITS).alias("precision_all"),
        )
        .sort(*_ORDER)
    )


def false_positives(clean: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """What the checks say of bars that nobody damaged.

    Args:
        clean: `FOUND`, on those bars.
        bars: symbol, session of the bars.

    Returns:
        check, severity, findings, rows (bars and missing bars that they cover, each once), per_million (rows per
        million bars, 6 decimals). The check "*" is all checks of a severity, with the severity "*" all there are;
        these come last.
    """
    require_columns(bars, KEY, "bars")
    scale = _MILLION / bars.height if bars.height else 0.0
    return (
        _covered(_with_totals(clean), bars)
        .group_by("check", "severity")
        .agg(findings=pl.col("finding").n_unique().cast(pl.Int64), rows=pl.struct(KEY).n_unique().cast(pl.Int64))
        .with_columns(per_million=(pl.col("rows") * scale).round(6))
        .sort(*_ORDER)
    )


def _with_totals(found: pl.DataFrame) -> pl.DataFrame:
    """Findings, and each place once more under "*" for its severity and for all of them."""
    by_severity = found.with_columns(check=pl.lit(ALL)).unique()
    return pl.concat([found, by_severity, by_severity.with_columns(severity=pl.lit(ALL)).unique()])


def _by_reach(found: pl.DataFrame) -> list[tuple[list[str], pl.DataFrame]]:
    """Findings by the columns that say where they are: a bar, a symbol, a session, or nothing at all."""
    reaches: Sequence[list[str]] = (KEY, ["symbol"], ["session"], [])
    return [
        (reach, found.filter(pl.col(name).is_not_null() == (name in reach) for name in KEY).drop(set(KEY) - set(reach)))
        for reach in reaches
    ]


def _hits(where: pl.DataFrame, found: pl.DataFrame) -> pl.DataFrame:
    """Places beside every finding that points at them."""
    return pl.concat(
        [where.join(part, on=reach) if reach else where.join(part, how="cross") for reach, part in _by_reach(found)],
        how="diagonal",
    )


def _covered(found: pl.DataFrame, bars: pl.DataFrame) -> pl.DataFrame:
    """check, severity, finding (number), symbol, session of every key that a finding covers."""
    keys = bars.select(KEY)
    numbered = found.with_row_index("finding")
    parts = [
        part if reach == KEY else part.join(keys, on=reach) if reach else part.join(keys, how="cross")
        for reach, part in _by_reach(numbered)
    ]
    return pl.concat(part.select("finding", "check", "severity", *KEY) for part in parts)
