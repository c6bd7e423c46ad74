"""The script a quant would write with pandas: 14 factors from one parquet file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        self.bars = data / "bars.parquet"

    def factors(self, _: int) -> pd.DataFrame:
        bars = pd.read_parquet(self.bars, columns=["symbol", "session", "high", "low", "close", "value"])
        symbol = bars["symbol"].astype("category")

        def over(column: pd.Series, window: int, what: str) -> np.ndarray:
            rolled = column.groupby(symbol, observed=True, sort=False).rolling(window)
            return getattr(rolled, what)().to_numpy()

        def before(column: pd.Series, steps: int) -> pd.Series:
            return column.groupby(symbol, observed=True, sort=False).shift(steps)

        high, low, close = bars["high"], bars["low"], bars["close"]
        log_ret = np.log(close / before(close, 1))
        top, bottom = over(high, 14, "max"), over(low, 14, "min")
        return bars[["symbol", "session"]].assign(
            ret_1d=close / before(close, 1) - 1,
            ret_5d=close / before(close, 5) - 1,
            ret_20d=close / before(close, 20) - 1,
            ret_60d=close / before(close, 60) - 1,
            log_ret=log_ret,
            vol_20=over(log_ret, 20, "std") * 252**0.5,
            vol_60=over(log_ret, 60, "std") * 252**0.5,
            parkinson_20=np.sqrt(over(np.log(high / low) ** 2, 20, "mean") / 2.772588722239781 * 252),
            sma_5=over(close, 5, "mean"),
            sma_20=over(close, 20, "mean"),
            above_sma_50=close / over(close, 50, "mean") - 1,
            willr_14=-100 * (top - close) / (top - bottom),
            high_52w=over(high, 252, "max"),
            adv_20=over(bars["value"], 20, "mean"),
        )
