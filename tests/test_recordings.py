"""What was really answered, from every host, is read or refused for the right reason; nothing is guessed.

The rules are by endpoint, so that other recordings of the same endpoints are held to the same.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path

import polars as pl
import pytest

from benchmarks.fuzz import broken
from tests.recordings import HOSTS, Recording, recordings
from vprism_pipelines.errors import ProviderError, UnknownProvider
from vprism_pipelines.market.symbols import resolve
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Parsed
from vprism_pipelines.providers.transport import EGRESS

ROWS = r"rows"
NOTHING = r"NO_DATA|NOT_FOUND"
REFUSED = r"MALFORMED|NO_DATA|NOT_FOUND|PROVIDER_ERROR"
LIMITS = r"AUTH_REQUIRED|PREMIUM_REQUIRED|RATE_LIMITED|QUOTA_EXHAUSTED|BLOCKED|UNAVAILABLE|RETIRED"

# (host, path and query; what may become of the answer), the first that fits. What no rule knows is refused.
RULES: Sequence[tuple[str, str]] = (
    # An answer that nobody got through with, whatever was asked.
    (r"^HTTP [345]\d\d ", rf"{REFUSED}|{LIMITS}"),
    (r"error_", rf"{REFUSED}|{LIMITS}"),
    (r"premium_message", r"PREMIUM_REQUIRED"),
    # Bars of days; other bars are never taken for them.
    (r"yahoo\.com/v8/finance/chart/.*interval=(?!1d)\w+", REFUSED),
    (r"yahoo\.com/v8/finance/chart/", rf"{ROWS}|{REFUSED}"),
    (r"yahoo\.com/v7/finance/download/", ROWS),
    (r"alphavantage.*function=(TIME_SERIES_DAILY|FX_DAILY|DIGITAL_CURRENCY_DAILY|GLOBAL_QUOTE)", ROWS),
    (r"alphavantage.*function=(DIVIDENDS|SPLITS|OVERVIEW|LISTING_STATUS)", ROWS),
    (r"alphavantage.*function=\w*(INTRADAY|WEEKLY|MONTHLY)", r"MALFORMED"),
    (r"/datatables/WIKI/PRICES.*export_status", r"MALFORMED|UNAVAILABLE"),
    (r"/datatables/WIKI/PRICES", ROWS),
    (r"/datasets/WIKI/\w+", rf"{ROWS}|NO_DATA"),
    (r"/api/v3/datasets/", rf"{ROWS}|{REFUSED}"),
    (r"/api/v1/datasets.*exclude_data=true", r"NO_DATA"),
    (r"/api/v1/datasets", rf"{ROWS}|{REFUSED}"),
    (r"gtimg\.cn/appstock/app/\w*fqkline/get|finance\.qq\.com/.*fqkline/get", rf"{ROWS}|{NOTHING}|MALFORMED"),
    (r"gtimg\.cn/.*q=", rf"{ROWS}|{NOTHING}"),
    (r"eastmoney\.com/api/qt/stock/kline/get.*klt=(?!101\b)\d+", r"MALFORMED"),
    (r"eastmoney\.com/api/qt/stock/kline/get.*fqt=[^0?]", r"MALFORMED"),
    (r"eastmoney\.com/api/qt/stock/kline/get", rf"{ROWS}|{NOTHING}|MALFORMED"),
    (r"sinajs\.cn/.*list=(sh|sz|bj)", rf"{ROWS}|{NOTHING}"),
    (r"sina\.com\.cn/usstock/.*getMinK", r"MALFORMED"),
    (r"getKLineData", rf"{ROWS}|{REFUSED}"),
    (r"kbsec\.com\.vn/.*/data_day", rf"{ROWS}|NO_DATA"),
    (r"vietcap\.com\.vn/api/chart/OHLCChart/gap-chart.*ONE_DAY", rf"{ROWS}|NO_DATA"),
    (r"vietcap\.com\.vn/api/chart/OHLCChart/gap-chart", r"MALFORMED|NO_DATA"),
    (r"tcbs\.com\.vn/.*(bars-long-term|dividend-payment-histories)", rf"{ROWS}|NO_DATA"),
    (r"vndirect\.com\.vn/v4/stock_prices", rf"{ROWS}|NO_DATA"),
    # Quotes, trades, figures and descriptions.
    (r"tcbs\.com\.vn/.*(financialratio|incomestatement|overview)", rf"{ROWS}|NO_DATA"),
    (r"tcbs\.com\.vn/.*(intraday|large-share-holders)", r"MALFORMED|NO_DATA"),
    (r"yahoo\.com/v7/finance/quote\b", rf"{ROWS}|NOT_FOUND"),
    (r"yahoo\.com/v10/finance/quoteSummary/.*(price|assetProfile|defaultKeyStatistics|summaryDetail)", ROWS),
    (r"yahoo\.com/ws/fundamentals-timeseries/", rf"{ROWS}|NO_DATA"),
    (r"alphavantage.*function=(EARNINGS|CURRENCY_EXCHANGE_RATE)\b", ROWS),
    (r"kbsec\.com\.vn/.*(stock/iss|trade/history)", rf"{ROWS}|NO_DATA"),
    (r"vietcap\.com\.vn/.*(LEData/getAll|price/symbols/getList)", rf"{ROWS}|NO_DATA"),
)
# Other questions: nobody reads their answers yet, or their reader is another data set's; in any case not as bars.
OTHER = rf"{ROWS}|{REFUSED}|{LIMITS}|{UnknownProvider.code}"
_CLOSED_DAYS_TRADE = re.compile(r"DIGITAL_CURRENCY|BTC|FX_|=X|CURRENCY")


def answered(recording: Recording) -> tuple[str, Parsed | None]:
    """`rows` or the code of the typed error, and the rows."""
    try:
        parsed = registry.parser_of(recording.payload.request).parse(recording.payload)
    except (ProviderError, UnknownProvider) as error:
        return error.code if error.hint else f"{error.code} without a hint", None
    assert not list(broken(parsed)), recording.name
    assert parsed.rows, f"{recording.name}: neither rows nor an error"
    return "rows", parsed


def expected(recording: Recording) -> str:
    """Outcomes that the rules allow."""
    asked = f"HTTP {recording.payload.status} {recording.endpoint}?{recording.query} {recording.name}"
    return next((outcome for pattern, outcome in RULES if re.search(pattern, asked)), OTHER)


@pytest.fixture(scope="module")
def everything(shared_fixtures: Path) -> list[tuple[Recording, str, Parsed | None]]:
    return [(recording, *answered(recording)) for recording in recordings(shared_fixtures)]


Everything = list[tuple[Recording, str, Parsed | None]]


@pytest.mark.shared
def test_every_recording_is_rows_of_the_contract_or_the_error_that_its_endpoint_calls_for(
    everything: Everything,
) -> None:
    table = Counter((recording.provider, outcome) for recording, outcome, _ in everything)
    print("\n| provider | outcome | recordings |\n|---|---|---|")
    print("\n".join(f"| {provider} | {outcome} | {count} |" for (provider, outcome), count in sorted(table.items())))
    wrong = [
        f"{recording.name}: {outcome}, not {expected(recording)}"
        for recording, outcome, _ in everything
        if not re.fullmatch(expected(recording), outcome)
    ]
    assert not wrong
    read = {provider for provider, outcome in table if outcome == "rows"}
    assert read >= {"yahoo", "alpha_vantage", "nasdaq_data_link", "tencent", "sina", "kbs", "vci"}


@pytest.mark.shared
def test_bars_lie_on_days_on_which_an_exchange_can_be_open(everything: Everything) -> None:
    for recording, _, parsed in everything:
        if (
            parsed is None
            or "bars" not in parsed.frames
            or _CLOSED_DAYS_TRADE.search(f"{recording.query}{recording.name}")
        ):
            continue
        sessions = parsed.frames["bars"]["session"]
        assert sessions.dt.weekday().le(5).all(), recording.name
        assert sessions.le((recording.payload.fetched_at + timedelta(days=1)).date()).all(), recording.name


@pytest.mark.shared
def test_units_are_right_where_a_traded_value_proves_them(everything: Everything) -> None:
    """Value divided by volume is the average price of a share: a wrong lot or a wrong unit is off by ten or more."""
    proven = 0
    average = (pl.col("value") * pl.col("value_unit")) / (pl.col("volume") * pl.col("volume_unit"))
    for recording, _, parsed in everything:
        if parsed is None or recording.provider not in {"tencent", "eastmoney", "sina"} or "bars" not in parsed.frames:
            continue
        bars = parsed.frames["bars"].filter(
            pl.col("price_basis") == "raw",
            pl.col("volume") > 0,
            pl.col("value") > 0,
            pl.col("raw_symbol").map_elements(
                lambda raw: ":INDEX:" not in str(resolve(raw).symbol), return_dtype=pl.Boolean
            ),
        )
        assert bars.select(average.is_between(pl.col("low") * 0.99, pl.col("high") * 1.01).all()).item(), recording.name
        proven += bars.height
    assert proven


@pytest.mark.shared
def test_every_symbol_of_a_bar_is_one_the_house_knows(everything: Everything) -> None:
    for recording, _, parsed in everything:
        if parsed is None or recording.provider not in {"tencent", "eastmoney", "sina", "kbs", "vci"}:
            continue
        for frame in parsed.frames.values():
            for raw in frame["raw_symbol"].unique():
                market = "vn" if recording.provider in {"kbs", "vci"} else None
                assert resolve(raw, market=market).symbol, f"{recording.name}: {raw}"


def test_every_host_that_may_be_asked_belongs_to_the_provider_that_reads_it() -> None:
    owners = {host: name for name, hosts in EGRESS.items() for host in hosts}
    for host, name in owners.items():
        assert next(owner for end, owner in HOSTS.items() if host == end or host.endswith(f".{end}")) == name


def test_an_answer_of_nobody_s_endpoint_says_so() -> None:
    from tests.provider_kit import payload

    with pytest.raises(UnknownProvider) as caught:
        registry.parser_of(payload("somebody", "{}").request)
    assert caught.value.hint
