"""Correlation of returns between symbols, on the sessions both traded."""

from __future__ import annotations

import numpy as np
import polars as pl

from vprism_pipelines.market.kernels import Array, Rows

SCHEMA: dict[str, pl.DataType] = {
    "sessions": pl.Int32(),
    "symbol_a": pl.String(),
    "symbol_b": pl.String(),
    "observations": pl.Int32(),
    "correlation": pl.Float64(),
}
"""Columns of `correlations`: sessions looked back, a pair in alphabetical order, sessions both traded, -1 to 1."""


def correlations(returns: pl.DataFrame, days: pl.Series, *sessions: int) -> pl.DataFrame:
    """Pearson correlation of every pair of symbols over the last sessions of a market.

    Args:
        returns: symbol, session, ret (fraction; null: none).
        days: The market's sessions, ascending, whoever traded on them.
        *sessions: How many sessions to look back.

    Returns:
        One row of `SCHEMA` per look-back and pair. Null where the two share fewer than half of the sessions, or one
        of them did not move.
    """
    symbols = returns["symbol"].unique().sort()
    matrix = np.full((len(days), len(symbols)), np.nan)
    known = returns.filter(pl.col("session").is_in(days.implode()) & pl.col("ret").is_not_null())
    at = days.search_sorted(known["session"]).to_numpy(), symbols.search_sorted(known["symbol"]).to_numpy()
    matrix[at] = known["ret"].to_numpy()
    a, b = np.triu_indices(len(symbols), 1)
    pairs = (_pairs(matrix[-n:], symbols, a, b, n) for n in sessions)
    return pl.concat([pl.DataFrame(schema=SCHEMA), *pairs])


def _pairs(matrix: Array, symbols: pl.Series, a: Rows, b: Rows, n: int) -> pl.DataFrame:
    both = ~np.isnan(matrix[:, a]) & ~np.isnan(matrix[:, b])
    count = both.sum(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        x, y = (np.where(both, side, 0.0) for side in (matrix[:, a], matrix[:, b]))
        # Sums along the sessions are taken one after another, pair by pair alike: no library decides their order.
        dx = np.where(both, x - x.sum(axis=0) / count, 0.0)
        dy = np.where(both, y - y.sum(axis=0) / count, 0.0)
        value = (dx * dy).sum(axis=0) / np.sqrt((dx * dx).sum(axis=0) * (dy * dy).sum(axis=0))
    known = (2 * count >= n) & np.isfinite(value)
    return pl.DataFrame(
        {
            "sessions": np.full(len(a), n, dtype=np.int32),
            "symbol_a": symbols.gather(a),
            "symbol_b": symbols.gather(b),
            "observations": count.astype(np.int32),
            "correlation": pl.Series(np.where(known, np.clip(value, -1, 1), np.nan), nan_to_null=True),
        },
        schema=SCHEMA,
    )
