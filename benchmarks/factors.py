"""The 14 factors of the race, by their names in `analytics.daily`, as Qlib's expression language writes them."""

from __future__ import annotations

FACTORS = {
    "ret_1d": "$close / Ref($close, 1) - 1",
    "ret_5d": "$close / Ref($close, 5) - 1",
    "ret_20d": "$close / Ref($close, 20) - 1",
    "ret_60d": "$close / Ref($close, 60) - 1",
    "log_ret": "Log($close / Ref($close, 1))",
    "vol_20": "Std(Log($close / Ref($close, 1)), 20) * 15.874507866387544",
    "vol_60": "Std(Log($close / Ref($close, 1)), 60) * 15.874507866387544",
    "parkinson_20": "Power(Mean(Power(Log($high / $low), 2), 20) / 2.772588722239781 * 252, 0.5)",
    "sma_5": "Mean($close, 5)",
    "sma_20": "Mean($close, 20)",
    "above_sma_50": "$close / Mean($close, 50) - 1",
    "willr_14": "-100 * (Max($high, 14) - $close) / (Max($high, 14) - Min($low, 14))",
    "high_52w": "Max($high, 252)",
    "adv_20": "Mean($value, 20)",
}
