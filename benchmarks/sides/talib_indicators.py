"""TA-Lib over numpy arrays, symbol by symbol: how its Python package is used."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import talib


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        self.bars = pd.read_parquet(data / "bars.parquet").astype({"volume": float})

    def indicators(self, _: int) -> pd.DataFrame:
        return pd.concat(_of_one(rows) for _, rows in self.bars.groupby("symbol", sort=False))


def _of_one(bars: pd.DataFrame) -> pd.DataFrame:
    high, low, close, volume = (bars[name].to_numpy() for name in ("high", "low", "close", "volume"))
    macd, macd_signal, macd_hist = talib.MACD(close, 12, 26, 9)
    bb_upper_20, bb_mid_20, bb_lower_20 = talib.BBANDS(close, 20, 2, 2)
    stoch_k, stoch_d = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    aroon_down_25, aroon_up_25 = talib.AROON(high, low, 25)
    return bars[["symbol", "session"]].assign(
        **{f"sma_{n}": talib.SMA(close, n) for n in (5, 10, 20, 50, 100, 200)},
        **{f"ema_{n}": talib.EMA(close, n) for n in (12, 26, 50, 200)},
        wma_20=talib.WMA(close, 20),
        rsi_14=talib.RSI(close, 14),
        macd=macd,
        macd_signal=macd_signal,
        macd_hist=macd_hist,
        bb_mid_20=bb_mid_20,
        bb_upper_20=bb_upper_20,
        bb_lower_20=bb_lower_20,
        atr_14=talib.ATR(high, low, close, 14),
        natr_14=talib.NATR(high, low, close, 14),
        adx_14=talib.ADX(high, low, close, 14),
        plus_di_14=talib.PLUS_DI(high, low, close, 14),
        minus_di_14=talib.MINUS_DI(high, low, close, 14),
        stoch_k=stoch_k,
        stoch_d=stoch_d,
        obv=talib.OBV(close, volume),
        mfi_14=talib.MFI(high, low, close, volume, 14),
        cci_20=talib.CCI(high, low, close, 20),
        willr_14=talib.WILLR(high, low, close, 14),
        aroon_up_25=aroon_up_25,
        aroon_down_25=aroon_down_25,
        roc_12=talib.ROC(close, 12),
    )
