"""Bars, benchmarks and independent answers for the tests of the indicators."""

from __future__ import annotations

from datetime import date, timedelta

import numpy as np
import polars as pl
import talib
from hypothesis import strategies as st

EPOCH = date(2000, 1, 3)


def history(
    seed: int, rows: int, symbol: str = "US:STOCK:A", *, tick: float = 0.0, suspended: float = 0.0
) -> pl.DataFrame:
    """Random traded bars. `tick` rounds prices (ties, flat days), `suspended` is the share of gaps between sessions."""
    rng = np.random.default_rng(seed)
    gaps = np.where(rng.random(rows) < suspended, rng.integers(2, 60, rows), 1)
    session_no = np.cumsum(gaps)
    close = 20 * np.exp(np.cumsum(rng.normal(0, 0.02, rows)))
    open_ = close * np.exp(rng.normal(0, 0.01, rows))
    high = np.maximum(open_, close) * np.exp(np.abs(rng.normal(0, 0.01, rows)))
    low = np.minimum(open_, close) * np.exp(-np.abs(rng.normal(0, 0.01, rows)))
    if tick:
        open_, high, low, close = (np.maximum(np.round(p / tick), 1) * tick for p in (open_, high, low, close))
    volume = rng.integers(100, 1_000_000, rows)
    factor = 3.0 ** (np.arange(rows) > rows // 2)  # one 3:1 split: raw prices fall, adjusted ones do not
    return pl.DataFrame(
        {
            "symbol": [symbol] * rows,
            "session": [EPOCH + timedelta(days=int(n)) for n in session_no],
            "session_no": session_no.astype(np.int32),
            "open": open_,
            "high": high,
            "low": low,
            "close": close,
            "volume": volume.astype(float),
            "raw_close": close / factor,
            "raw_high": high / factor,
            "raw_low": low / factor,
            "value": volume * close * rng.uniform(0.99, 1.01, rows),
            "split_high": high,
            "split_low": low,
            "split_close": close,
        }
    )


def one_bar_a_day(closes: list[float], **columns: object) -> pl.DataFrame:
    """Bars whose four prices are equal."""
    rows = len(closes)
    prices = dict.fromkeys(
        ("open", "high", "low", "close", "raw_close", "raw_high", "raw_low", "split_high", "split_low", "split_close"),
        pl.Series(closes, dtype=pl.Float64),
    )
    return pl.DataFrame(
        {
            "symbol": ["X"] * rows,
            "session": [EPOCH + timedelta(days=n) for n in range(rows)],
            "session_no": list(range(rows)),
            **prices,
            "volume": [1000] * rows,
            "value": [1e6] * rows,
        }
        | columns
    )


def benchmark_of(rng: np.random.Generator, sessions: int, missing: float) -> pl.DataFrame:
    closes = 1000 * np.exp(np.cumsum(rng.normal(0, 0.01, sessions)))
    days = pl.date_range(EPOCH, EPOCH + timedelta(days=sessions - 1), eager=True)
    frame = pl.DataFrame({"session": days, "close": closes})
    return frame.filter(pl.Series(rng.random(sessions) >= missing))


def continuation(bars: pl.DataFrame, state: pl.DataFrame) -> pl.DataFrame:
    """What a caller of an incremental computation passes: per symbol the tail up to its state, then the new bars."""
    since = bars.join(state.select("symbol", "since"), on="symbol", how="left", maintain_order="left")["since"]
    return bars.filter(pl.col("session") >= since.fill_null(date.min))


markets = st.tuples(
    st.integers(0, 2**32),
    st.lists(st.sampled_from([1, 20, 40, 300, 503, 504, 505, 760, 1100]), min_size=1, max_size=4),
    st.sampled_from([0.0, 0.01, 1.0]),
    st.sampled_from([0.0, 0.01, 0.3]),
)


def market(seed: int, lengths: list[int], tick: float, suspended: float) -> pl.DataFrame:
    bars = pl.concat(
        history(seed + i, rows, f"US:STOCK:S{i}", tick=tick, suspended=suspended) for i, rows in enumerate(lengths)
    )
    # Sources do not always know what was paid, nor indices what was traded.
    rng = np.random.default_rng(seed)
    unknown = pl.Series(rng.random(bars.height) < 0.002)
    return bars.with_columns(
        pl.when(unknown).then(None).otherwise("value").alias("value"),
        pl.when(unknown.reverse()).then(None).otherwise("volume").alias("volume"),
    )


def reference(bars: pl.DataFrame) -> dict[str, np.ndarray]:
    """TA-Lib's answers."""
    high, low, close, volume = (bars[name].cast(pl.Float64).to_numpy() for name in ("high", "low", "close", "volume"))
    macd = talib.MACD(close, 12, 26, 9)
    bands = talib.BBANDS(close, 20, 2, 2)
    slow = talib.STOCH(high, low, close, 14, 3, 0, 3, 0)
    down, up = talib.AROON(high, low, 25)
    return {
        **{f"sma_{n}": talib.SMA(close, n) for n in (5, 10, 20, 50, 100, 200)},
        **{f"ema_{n}": talib.EMA(close, n) for n in (12, 26, 50, 200)},
        **dict(zip(("macd", "macd_signal", "macd_hist"), macd, strict=True)),
        **dict(zip(("bb_upper_20", "bb_mid_20", "bb_lower_20"), bands, strict=True)),
        **dict(zip(("stoch_k", "stoch_d"), slow, strict=True)),
        "wma_20": talib.WMA(close, 20),
        "rsi_14": talib.RSI(close, 14),
        "atr_14": talib.ATR(high, low, close, 14),
        "natr_14": talib.NATR(high, low, close, 14),
        "adx_14": talib.ADX(high, low, close, 14),
        "plus_di_14": talib.PLUS_DI(high, low, close, 14),
        "minus_di_14": talib.MINUS_DI(high, low, close, 14),
        "obv": talib.OBV(close, volume),
        "mfi_14": talib.MFI(high, low, close, volume, 14),
        "cci_20": talib.CCI(high, low, close, 20),
        "willr_14": talib.WILLR(high, low, close, 14),
        "aroon_up_25": up,
        "aroon_down_25": down,
        "roc_12": talib.ROC(close, 12),
    }


def assert_close(ours: pl.Series, theirs: pl.Series | np.ndarray, *, where: np.ndarray | None = None) -> None:
    """Equal to 1e-9 of the column's own size, values and gaps alike."""
    mine, other = ours.to_numpy(), np.asarray(theirs, dtype=float)
    scale = np.nanmax(np.abs(other)) if np.isfinite(other).any() else 1.0
    keep = np.ones(len(mine), dtype=bool) if where is None else where
    np.testing.assert_allclose(mine[keep], other[keep], rtol=1e-9, atol=1e-9 * scale, err_msg=ours.name)
