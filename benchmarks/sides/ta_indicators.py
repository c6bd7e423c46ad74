"""The `ta` package, symbol by symbol: of its indicators those whose definition is everybody's."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
from ta.momentum import ROCIndicator, WilliamsRIndicator
from ta.trend import CCIIndicator, SMAIndicator, WMAIndicator
from ta.volatility import BollingerBands


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        self.bars = pd.read_parquet(data / "bars.parquet")

    def indicators(self, _: int) -> pd.DataFrame:
        return pd.concat(_of_one(rows) for _, rows in self.bars.groupby("symbol", sort=False))


def _of_one(bars: pd.DataFrame) -> pd.DataFrame:
    high, low, close = bars["high"], bars["low"], bars["close"]
    bands = BollingerBands(close, 20, 2)
    return bars[["symbol", "session"]].assign(
        **{f"sma_{n}": SMAIndicator(close, n).sma_indicator() for n in (5, 10, 20, 50, 100, 200)},
        wma_20=WMAIndicator(close, 20).wma(),
        bb_mid_20=bands.bollinger_mavg(),
        bb_upper_20=bands.bollinger_hband(),
        bb_lower_20=bands.bollinger_lband(),
        cci_20=CCIIndicator(high, low, close, 20).cci(),
        willr_14=WilliamsRIndicator(high, low, close, 14).williams_r(),
        roc_12=ROCIndicator(close, 12).roc(),
    )
