"""The rule of Qlib's data health check, written down anew: the check is a script of its repository, not in its package.

The rule: a price that differs by more than 0.5 of itself from the row before, a volume by more than 3, a value that
is missing. Qlib names only the first date of each column of a symbol; here every date counts, in its favour.
"""

from __future__ import annotations

import polars as pl

PRICE_STEP, VOLUME_STEP = 0.5, 3.0


def found(bars: pl.DataFrame) -> pl.DataFrame:
    """check (the column it names), symbol, session of the rows it would name.

    Args:
        bars: symbol, session, open, high, low, close, volume; rows in the order of the delivery.
    """
    steps = dict.fromkeys(("open", "high", "low", "close"), PRICE_STEP) | {"volume": VOLUME_STEP}
    ordered = bars.sort("symbol", "session", maintain_order=True)
    return pl.concat(
        ordered.filter(
            pl.col(column).is_null() | ((pl.col(column) / pl.col(column).shift(1).over("symbol") - 1).abs() > step)
        ).select(check=pl.lit(column), symbol="symbol", session="session")
        for column, step in steps.items()
    )
