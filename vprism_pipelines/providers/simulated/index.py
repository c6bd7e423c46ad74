"""The market's index, of thirty HOSE companies. No such index exists: ZSIM (synthetic).

Its members are always the same, whoever asks for which symbols, so its history never depends on the question.
"""

from __future__ import annotations

from datetime import date
from itertools import count, islice
from typing import Final

import numpy as np
import polars as pl

from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.simulated.exchange import BARS, Exchange
from vprism_pipelines.providers.simulated.listing import Companies, symbol_of, venue_of

INDEX: Final = "VN:INDEX:ZSIM"
INDEX_NAME: Final = "Index of 30 simulated HOSE companies (synthetic)"
_MEMBERS: Final = np.array(list(islice((number for number in count() if venue_of(number) == "HOSE"), 30)))
_FIRST_LEVEL: Final = 1_000.0


def index_bars(seed: int, start: date, end: date) -> pl.DataFrame:
    """The index from `start` to `end`: columns of `BARS`; prices in points, volume and value of all members.

    A level is the one before times the capitalisation at today's prices over that at today's reference prices, so that
    no ex-date moves it.
    """
    members = Companies.of(seed, _MEMBERS, start)
    weights = pl.DataFrame({"symbol": members.symbols, "shares": members.capital.astype(np.int64)})
    worth = ("open", "high", "low", "close", "reference")
    sums = (
        Exchange(seed, [symbol_of(number) for number in _MEMBERS.tolist()], start, end)
        .bars()
        .join(weights, on="symbol")
        .group_by("session")
        # Whole numbers: a sum of floats would depend on its order.
        .agg(
            *((pl.col(name).cast(pl.Int64) * pl.col("shares")).sum() for name in worth), pl.col("volume", "value").sum()
        )
        .sort("session")
    )
    top, bottom = pl.max_horizontal("open", "close"), pl.min_horizontal("open", "close")
    level = _FIRST_LEVEL * (pl.col("close") / pl.col("reference")).cum_prod()
    before = level.shift(1).fill_null(_FIRST_LEVEL) / pl.col("reference")
    levels = sums.select(
        "session",
        "volume",
        "value",
        open=(before * pl.col("open")).round(2),
        # Members do not peak at one time.
        high=(before * (top + pl.col("high")) / 2).round(2),
        low=(before * (bottom + pl.col("low")) / 2).round(2),
        close=(before * pl.col("close")).round(2),
        reference=(before * pl.col("reference")).round(2),
        symbol=pl.lit(INDEX),
        currency=pl.lit(VN.currency),
        exchange=pl.lit("HOSE"),
    )
    return levels.select(pl.col(name).cast(dtype) for name, dtype in BARS.items())
