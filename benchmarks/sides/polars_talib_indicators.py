"""TA-Lib as polars expressions, all symbols at once, on all cores."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import polars_talib as talib


class Side:
    def __init__(self, data: Path, _own: Path) -> None:
        self.bars = pl.read_parquet(data / "bars.parquet").with_columns(pl.col("volume").cast(pl.Float64))

    def indicators(self, _: int) -> pl.DataFrame:
        high, low, close, volume = (pl.col(name) for name in ("high", "low", "close", "volume"))
        single = {
            **{f"sma_{n}": talib.sma(close, timeperiod=n) for n in (5, 10, 20, 50, 100, 200)},
            **{f"ema_{n}": talib.ema(close, timeperiod=n) for n in (12, 26, 50, 200)},
            "wma_20": talib.wma(close, timeperiod=20),
            "rsi_14": talib.rsi(close, timeperiod=14),
            "atr_14": talib.atr(high, low, close, timeperiod=14),
            "natr_14": talib.natr(high, low, close, timeperiod=14),
            "adx_14": talib.adx(high, low, close, timeperiod=14),
            "plus_di_14": talib.plus_di(high, low, close, timeperiod=14),
            "minus_di_14": talib.minus_di(high, low, close, timeperiod=14),
            "obv": talib.obv(close, volume),
            "mfi_14": talib.mfi(high, low, close, volume, timeperiod=14),
            "cci_20": talib.cci(high, low, close, timeperiod=20),
            "willr_14": talib.willr(high, low, close, timeperiod=14),
            "roc_12": talib.roc(close, timeperiod=12),
        }
        several = {
            ("macd", "macd_signal", "macd_hist"): talib.macd(close, fastperiod=12, slowperiod=26, signalperiod=9),
            ("bb_upper_20", "bb_mid_20", "bb_lower_20"): talib.bbands(close, timeperiod=20, nbdevup=2.0, nbdevdn=2.0),
            ("stoch_k", "stoch_d"): talib.stoch(high, low, close, fastk_period=14, slowk_period=3, slowd_period=3),
            ("aroon_down_25", "aroon_up_25"): talib.aroon(high, low, timeperiod=25),
        }
        fields = [expression.struct.rename_fields(list(names)) for names, expression in several.items()]
        whole = self.bars.select(
            "symbol",
            "session",
            **{name: expression.over("symbol") for name, expression in single.items()},
            **{f"fields_{n}": expression.over("symbol") for n, expression in enumerate(fields)},
        )
        return whole.unnest([f"fields_{n}" for n in range(len(fields))])
