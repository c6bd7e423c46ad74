"""What kind of change a new version of a value is: noise, a late fix, an error, a rebase of the history, a restatement.

A rebase multiplies everything before an ex-date by one ratio. Prices are rounded, so every row allows an interval of
ratios: half a unit of the provider's last decimal around both prices. Rows whose intervals share a point are on one
ratio; several ex-dates between two pulls leave several such pieces (`quality.pieces`). What is on no ratio is judged
bar by bar.
"""

from __future__ import annotations

from datetime import timedelta

import polars as pl

from vprism_pipelines.market.rules import on_lattice, tick, venue
from vprism_pipelines.quality.pieces import NOISE, PRICES, PULL, RATIO_DIGITS, find_pieces

__all__ = ["UNDONE_DAYS", "changes", "classify_bars", "classify_terms", "confirmed", "marked", "named"]

LATE_DAYS = 10  # calendar days after the session within which a change is a correction
UNDONE_DAYS = 30  # calendar days within which a value that is taken back was an error
REBASE_ROWS = 3  # sessions on one ratio that make a rebase where nothing else of the pull is known
SURE_ROWS = 10  # sessions on one ratio that make one whatever lies before them
EVIDENCE = 3  # different prices on one ratio, where the whole overlap is shorter than that
STRAYS = 0.5  # sessions that may have stayed as they were, per rebased one; the pull may just have left them out
AMOUNT_TOLERANCE = 0.02  # relative; volumes and values drift that much after the close
UNIT_FACTOR = 100.0  # no event moves a price that far: the unit changed
TURNOVER = (0.8, 1.25)  # value / (volume x close)

KEY = ("symbol", "session", "provider")
AMOUNTS = ("volume", "value")
VALUES = (*PRICES, *AMOUNTS, "adj_close")


def classify_bars(pairs: pl.DataFrame) -> pl.Series:
    """Class of every change between two versions of a bar, as far as the changed bars of a pull alone can tell.

    Args:
        pairs: Columns of the ledger's table except known_to, change_class and batch, and the older version's value
            columns and known_from with the prefix `old_`. `undone` and `undoes` as `changes` gives them, or neither.

    Returns:
        `settled` (a provisional bar became final), `basis_change`, `float_noise` (prices within half a tick, volume
        and value within 2 %), `error` (taken back within 30 days, or against a rule that the older version obeyed),
        `rebase` (three sessions or more on one ratio), `late_correction` (within ten days of the session),
        `restatement`.
    """
    rows, pieces = find_pieces(marked(pairs))
    return named(rows, pieces.filter(pl.col("rows") >= REBASE_ROWS))


def classify_terms(pairs: pl.DataFrame) -> pl.Series:
    """Class of every change of what is no bar: all are restatements."""
    return pl.repeat("restatement", pairs.height, dtype=pl.String, eager=True).alias("change_class")


def changes(versions: pl.DataFrame) -> pl.DataFrame:
    """Pairs of successive versions, for `classify_bars`.

    Args:
        versions: All versions of some bars, ordered by symbol, session, provider and known_from.

    Returns:
        Every version but the first of each bar, with the older one's columns prefixed `old_`, `undone` (the next
        version says again what the older one said, soon) and `undoes` (this one does).
    """
    same = pl.all_horizontal(pl.col(name) == pl.col(name).shift(1) for name in KEY).fill_null(value=False)
    soon = (pl.col("known_from") - pl.col("known_from").shift(1)) <= timedelta(days=UNDONE_DAYS)
    again = pl.all_horizontal(_close(pl.col(name), pl.col(name).shift(2), NOISE) for name in VALUES)
    undoes = same & same.shift(1, fill_value=False) & again & soon
    return (
        versions.with_columns(
            *(pl.col(name).shift(1).alias(f"old_{name}") for name in (*VALUES, "provisional", "price_basis")),
            old_known_from=pl.col("known_from").shift(1),
            undoes=undoes,
            undone=undoes.shift(-1, fill_value=False),
            _same=same,
        )
        .filter("_same")
        .drop("_same")
    )


def marked(pairs: pl.DataFrame) -> pl.DataFrame:
    """The pairs with what they say by themselves: `noise`, `settles`, `other_basis`, `field` (what a rebase may have
    multiplied: prices, adj_close; null: this change is no part of one).
    """
    flags = {name: pl.col(name) if name in pairs.columns else pl.lit(value=False) for name in ("undone", "undoes")}
    unmoved = {name: _close(pl.col(name), pl.col(f"old_{name}"), NOISE) for name in VALUES}
    priced = ~pl.all_horizontal(unmoved[name] for name in PRICES)
    rows = pairs.with_columns(
        **flags,
        noise=pl.all_horizontal(unmoved.values()),
        settles=pl.col("old_provisional") & ~pl.col("provisional"),
        other_basis=pl.col("price_basis") != pl.col("old_price_basis"),
        field=pl.when(priced).then(pl.lit("prices")).when(~unmoved["adj_close"]).then(pl.lit("adj_close")),
    )
    scale = (pl.col("close") / pl.col("old_close")).round(RATIO_DIGITS)
    another_unit = (scale >= UNIT_FACTOR * 0.99) | (scale <= 1.01 / UNIT_FACTOR)
    apart = pl.any_horizontal("undone", "undoes", "provisional", "old_provisional", "other_basis", "noise")
    return rows.with_columns(another_unit=another_unit, field=pl.when(~apart & ~another_unit).then("field"))


def confirmed(pieces: pl.DataFrame) -> pl.Series:
    """Which pieces are rebases, where it is known what the same pull left as it was.

    Args:
        pieces: As `find_pieces` gives them, with `kept_before`, `kept_between` and `kept`: sessions of the same pull
            that the ratio would have changed and that did not change: before the first of the rebased ones, between
            them, and in all.
    """
    rows, strays = pl.col("rows"), STRAYS * pl.col("rows")
    enough = (rows >= REBASE_ROWS) | ((pl.col("evidence") >= EVIDENCE) & (pl.col("kept") == 0))
    whole = (rows >= SURE_ROWS) | (pl.col("kept_before") <= strays)
    return pieces.select((enough & whole & (pl.col("kept_between") <= strays)).alias("confirmed")).to_series()


def named(rows: pl.DataFrame, rebases: pl.DataFrame) -> pl.Series:
    """Class of every change.

    Args:
        rows: As `marked` gives them, with `piece` as `find_pieces` added it.
        rebases: The pieces that are rebases.
    """
    on_ratio = rows.join(
        rebases.select(*PULL, "field", "piece", "volume_ratio", rebased=pl.lit(value=True)),
        on=[*PULL, "field", "piece"],
        how="left",
        maintain_order="left",
    ).with_columns(
        rebased=pl.col("rebased").fill_null(value=False)
        & _amounts_kept(pl.col("volume_ratio").fill_null(1.0)).fill_null(value=True)
    )
    age = pl.col("known_from").dt.date() - pl.col("session")
    return (
        on_ratio.with_columns(slight=_slight(rows), broken=_broken(rows))
        .select(
            pl.when(pl.col("undone") & ~pl.col("noise") & ~pl.col("provisional"))
            .then(pl.lit("error"))
            .when("settles")
            .then(pl.lit("settled"))
            .when("other_basis")
            .then(pl.lit("basis_change"))
            .when("noise")
            .then(pl.lit("float_noise"))
            .when("rebased")
            .then(pl.lit("rebase"))
            .when("broken")
            .then(pl.lit("error"))
            .when("slight")
            .then(pl.lit("float_noise"))
            .when(age <= pl.duration(days=LATE_DAYS))
            .then(pl.lit("late_correction"))
            .otherwise(pl.lit("restatement"))
            .alias("change_class")
        )
        .to_series()
    )


def _close(new: pl.Expr, old: pl.Expr, tolerance: float) -> pl.Expr:
    """Whether two values differ by no more than a share of the older one; two missing ones do not differ."""
    return ((new - old).abs() <= tolerance * old.abs()).fill_null(new.is_null() & old.is_null())


def _amounts_kept(ratio: pl.Expr) -> pl.Expr:
    """Whether the volume is what the rebase makes of it; a split multiplies volumes, and one share is rounding."""
    expected = pl.col("old_volume") * ratio
    off = (pl.col("volume") - expected).abs()
    return (off <= 1) | ((off / expected).round(RATIO_DIGITS) <= AMOUNT_TOLERANCE)


def _slight(rows: pl.DataFrame) -> pl.Series:
    """Changes too small to be another trade: prices within half a tick, volume and value within 2 %."""
    prices = (*PRICES, "adj_close")
    near = pl.all_horizontal(_close(pl.col(name), pl.col(f"old_{name}"), 0.05) for name in prices)
    amounts = pl.all_horizontal(_close(pl.col(name), pl.col(f"old_{name}"), AMOUNT_TOLERANCE) for name in AMOUNTS)
    # The tick is looked up only where it can matter.
    some = rows.with_row_index("place").filter(near & amounts)
    half = tick(_venue(), pl.col("session"), pl.col("close"), asset=_asset()).fill_null(0.0) / 2
    within = [
        ((pl.col(name) - pl.col(f"old_{name}")).abs() <= pl.max_horizontal(half, NOISE * pl.col(f"old_{name}")) + 1e-9)
        .fill_null(value=True)
        for name in prices
    ]  # fmt: skip
    return _at(rows, some.filter(pl.all_horizontal(within)) if some.height else some)


def _broken(rows: pl.DataFrame) -> pl.Series:
    """New versions against a rule that the older one obeyed: of unit, of turnover, of the tick lattice."""

    def turnover(prefix: str) -> pl.Expr:
        volume, value, close = (pl.col(f"{prefix}{name}") for name in ("volume", "value", "close"))
        share = (value / (volume * close)).round(RATIO_DIGITS)
        return (~share.is_between(*TURNOVER) & (volume > 0) & (value > 0)).fill_null(value=False)

    def off_lattice(prefix: str) -> pl.Expr:
        return pl.any_horizontal(
            ~on_lattice(_venue(), pl.col("session"), pl.col(f"{prefix}{name}"), asset=_asset()) for name in PRICES
        ).fill_null(value=False)

    wrong = (pl.col("another_unit") | turnover("")) & ~turnover("old_")
    some = rows.with_row_index("place").filter((pl.col("price_basis") == "raw") | pl.col("another_unit"))
    # Elsewhere providers keep prices a thousandth off the tick.
    ticked = some.filter(pl.col("symbol").str.starts_with("VN:"), pl.col("field").is_not_null())
    off = ticked.filter(off_lattice("") & ~off_lattice("old_")) if ticked.height else ticked
    return _at(rows, pl.concat([some.filter(wrong), off]))


def _venue() -> pl.Expr:
    return venue(pl.col("symbol"), pl.col("exchange"))


def _asset() -> pl.Expr:
    return pl.col("symbol").str.split(":").list.get(1, null_on_oob=True).fill_null("STOCK")


def _at(rows: pl.DataFrame, some: pl.DataFrame) -> pl.Series:
    return rows.select(pl.int_range(pl.len()).is_in(some["place"].implode())).to_series()
