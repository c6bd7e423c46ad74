"""What a user can rely on when a symbol is resolved: forms, rules, failures, one identifier per instrument."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import polars as pl
import pytest

from vprism_pipelines.errors import UnknownSymbol
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.market.symbols import (
    ASSETS,
    parse_canonical,
    resolve,
    resolve_frame,
    resolve_strict,
)
from vprism_pipelines.market.symbols.forms import FORMS
from vprism_pipelines.market.symbols.rules import KRX_ROOTS, RULES, krx_code
from vprism_pipelines.market.symbols.tables import aliases, names

# One example per numbering rule: (raw, asset hint, canonical). The rule is in the key, so an id cannot change unseen.
EXAMPLES: dict[str, tuple[str, str | None, str]] = {
    "cn.stock.sh": ("601318", None, "CN:STOCK:SH601318"),
    "cn.stock.sz": ("300750", None, "CN:STOCK:SZ300750"),
    "cn.stock.bj": ("920445", None, "CN:STOCK:BJ920445"),
    "cn.etf.sh": ("510050", None, "CN:ETF:SH510050"),
    "cn.etf.sz": ("159919", None, "CN:ETF:SZ159919"),
    "cn.fund.sh": ("508001", None, "CN:FUND:SH508001"),
    "cn.fund.sz": ("162411", None, "CN:FUND:SZ162411"),
    "cn.convertible.sh": ("113050", None, "CN:CONVERTIBLE_BOND:SH113050"),
    "cn.convertible.sz": ("128136", None, "CN:CONVERTIBLE_BOND:SZ128136"),
    "cn.index.sh": ("000016", "index", "CN:INDEX:SH000016"),
    "cn.index.sz": ("399005", None, "CN:INDEX:SZ399005"),
    "cn.index.bj": ("899001", None, "CN:INDEX:BJ899001"),
    "cn.index.csi": ("931071", None, "CN:INDEX:CSI931071"),
    "cn.fund.otc": ("005827", "fund", "CN:FUND:OF005827"),
    "hk.warrant": ("54321", None, "HK:WARRANT:54321"),
    "hk.etf": ("3033", None, "HK:ETF:03033"),
    "hk.share": ("5", None, "HK:STOCK:00005"),
    "us.share": ("IBM", None, "US:STOCK:IBM"),
    "us.fund": ("VFIAX", None, "US:FUND:VFIAX"),
    "us.class": ("HEI-A", None, "US:STOCK:HEI.A"),
    "us.preferred": ("BAC-PL", None, "US:STOCK:BAC.PR.L"),
    "us.unit": ("AAC-UN", None, "US:STOCK:AAC.U"),
    "us.right": ("AAC-RT", None, "US:STOCK:AAC.R"),
    "us.warrant": ("AAC-WT", None, "US:WARRANT:AAC.WS"),
    "vn.stock": ("hpg", None, "VN:STOCK:HPG"),
    "vn.etf": ("FUEVFVND", None, "VN:ETF:FUEVFVND"),
    "vn.fund": ("FUCVREIT", None, "VN:FUND:FUCVREIT"),
    "vn.warrant": ("CHPG2406", None, "VN:WARRANT:CHPG2406"),
    "vn.futures.contract": ("VN30F2512", None, "VN:FUTURES:VN30F2512"),
    "vn.futures.rolling": ("VN30F1Q", None, "VN:FUTURES:VN30F1Q"),
    "vn.futures.krx": ("41B5G6000", None, "VN:FUTURES:GB05F2606"),
    "vn.bond": ("VIC123029", None, "VN:BOND:VIC123029"),
}


@pytest.mark.parametrize("rule_id", [rule.rule_id for rules in RULES.values() for rule in rules])
def test_every_numbering_rule_reads_its_own_example(rule_id: str) -> None:
    raw, asset, symbol = EXAMPLES[rule_id]
    found = resolve(raw, market=rule_id[:2], asset=asset)
    assert (found.status, found.symbol, found.code, found.rule_id) == ("resolved", symbol, None, rule_id)


@pytest.mark.parametrize(
    ("raw", "symbol"),
    [
        ("600519.SS", "CN:STOCK:SH600519"),
        ("600519.SHH", "CN:STOCK:SH600519"),
        ("SHSE.600519", "CN:STOCK:SH600519"),
        ("SHA:600519", "CN:STOCK:SH600519"),
        ("600519 CH Equity", "CN:STOCK:SH600519"),
        ("CN:600519", "CN:STOCK:SH600519"),
        ("CN:STOCK:600519", "CN:STOCK:SH600519"),
        ("SH000300", "CN:INDEX:SH000300"),
        ("0.000001", "CN:STOCK:SZ000001"),
        ("1.000001", "CN:INDEX:SH000001"),
        ("0.899050", "CN:INDEX:BJ899050"),
        ("005827.OF", "CN:FUND:OF005827"),
        ("930050.CSI", "CN:INDEX:CSI930050"),
        ("116.00005", "HK:STOCK:00005"),
        ("HKEX:5", "HK:STOCK:00005"),
        ("5 HK Equity", "HK:STOCK:00005"),
        ("HK:STOCK:5", "HK:STOCK:00005"),
        ("100.HSI", "HK:INDEX:HSI"),
        ("^HSTECH", "HK:INDEX:HSTECH"),
        ("^DJI", "US:INDEX:DJI"),
        ("IBM US Equity", "US:STOCK:IBM"),
        ("BRK/B US Equity", "US:STOCK:BRK.B"),
        ("106.BRK_B", "US:STOCK:BRK.B"),
        ("usMSFT.OQ", "US:STOCK:MSFT"),
        ("usBRK.B", "US:STOCK:BRK.B"),
        ("usBRK.B.N", "US:STOCK:BRK.B"),
        ("usF.N", "US:STOCK:F"),
        ("usUSB", "US:STOCK:USB"),
        ("usSPY.AM", "US:ETF:SPY"),
        ("us.INX", "US:INDEX:SPX"),
        ("usINX", "US:INDEX:SPX"),
        ("usDJI", "US:INDEX:DJI"),
        ("NYSE ARCA:GLD", "US:ETF:GLD"),
        ("AMEX:SPY", "US:ETF:SPY"),
        ("US:STOCK:BRK-B", "US:STOCK:BRK.B"),
        ("HOSE:HPG", "VN:STOCK:HPG"),
        ("SHS.HN", "VN:STOCK:SHS"),
        ("VN:HOSE:HPG", "VN:STOCK:HPG"),
        ("^VNINDEX.VN", "VN:INDEX:VNINDEX"),
        ("HOSE:VN30", "VN:INDEX:VN30"),
    ],
)
def test_a_qualified_spelling_needs_no_market(raw: str, symbol: str) -> None:
    assert resolve(raw).symbol == symbol


@pytest.mark.parametrize(("raw", "symbol"), [("USB", "US:STOCK:USB"), ("USFD", "US:STOCK:USFD")])
def test_a_ticker_that_begins_with_us_is_whole(raw: str, symbol: str) -> None:
    assert resolve(raw, market="us").symbol == symbol
    assert resolve(raw).symbol is None


@pytest.mark.parametrize(
    "raw", ["BAC-PL", "BAC-P-L", "BAC PR-L", "BAC.PRL", "BAC.PR.L", "BAC^L", "BAC/PL", "BAC_P_L", "bac-pl"]
)
def test_every_vendors_preferred_share_is_one_instrument(raw: str) -> None:
    assert resolve(raw, market="us").symbol == "US:STOCK:BAC.PR.L"


def test_series_r_of_a_preferred_is_not_the_word_pr() -> None:
    assert resolve("PSA-PR", market="us").symbol == "US:STOCK:PSA.PR.R"
    assert resolve("PSA.PR", market="us").symbol == "US:STOCK:PSA.PR"


@pytest.mark.parametrize(
    ("raw", "market", "asset", "code"),
    [
        ("", "us", None, "EMPTY"),
        ("\u200b \ufeff", None, None, "EMPTY"),
        ("MSFT", None, None, "MARKET_REQUIRED"),
        ("600000", None, None, "MARKET_REQUIRED"),
        ("BMW", "de", None, "MARKET_UNSUPPORTED"),
        ("JP:STOCK:7203", None, None, "MARKET_UNSUPPORTED"),
        ("MSFT.US", "vn", None, "MARKET_CONFLICT"),
        ("VN:MSFT.US", None, None, "MARKET_CONFLICT"),
        ("MSFT", "us", "crypto", "ASSET_UNSUPPORTED"),
        ("510050", "cn", "stock", "ASSET_CONFLICT"),
        ("600000", "cn", "index", "ASSET_CONFLICT"),
        ("005827.OF", None, "stock", "ASSET_CONFLICT"),
        ("510050", "cn", "fund", "ASSET_CONFLICT"),
        ("CHPG2406", "vn", "etf", "ASSET_CONFLICT"),
        ("HPG", "vn", "index", "ASSET_CONFLICT"),
        ("2800", "hk", "stock", "ASSET_CONFLICT"),
        ("23456", "hk", "stock", "ASSET_CONFLICT"),
        ("^GSPC", None, "stock", "ASSET_CONFLICT"),
        ("VN:STOCK:FUEVFVND", None, None, "ASSET_CONFLICT"),
        ("000002", "cn", None, "AMBIGUOUS_ASSET"),
        ("HNX", "vn", None, "AMBIGUOUS_ASSET"),
        ("600000.SZ", None, None, "EXCHANGE_CONFLICT"),
        ("sz510050", None, None, "EXCHANGE_CONFLICT"),
        ("0.600000", None, None, "EXCHANGE_CONFLICT"),
        ("CN:STOCK:SZ600000", None, None, "EXCHANGE_CONFLICT"),
        ("SSE:600000.SZ", None, None, "EXCHANGE_CONFLICT"),
        ("399005", "cn", "stock", "PATTERN"),
        ("600000.0", "cn", None, "PATTERN"),
        ("00000", "hk", None, "PATTERN"),
        ("5.0", "hk", None, "PATTERN"),
        ("TOOLONG", "us", None, "PATTERN"),
        ("^NIKKEI", "us", None, "PATTERN"),
        ("12A4", "vn", None, "PATTERN"),
        ("41I1I7000", "vn", None, "PATTERN"),
        ("41I1FD000", "vn", None, "PATTERN"),
        ("VN30F1612", "vn", None, "PATTERN"),
        ("CHPG1801", "vn", None, "PATTERN"),
        ("HPG;--", "vn", None, "PATTERN"),
        ("straße", "us", None, "PATTERN"),
        ("A" * 33, "us", None, "PATTERN"),
    ],
)
def test_a_symbol_that_cannot_be_resolved_says_why(raw: str, market: str, asset: str, code: str) -> None:
    found = resolve(raw, market=market, asset=asset)
    assert (found.status, found.symbol, found.code, found.rule_id) == ("unresolved", None, code, None)


def test_a_failure_names_the_rules_tried_what_they_read_and_what_to_do() -> None:
    tried = resolve("12345678", market="vn").diagnostics
    assert any("vn.etf" in line for line in tried)
    conflict = resolve("159915.SZ", asset="stock").diagnostics
    assert conflict[0] == "form.suffix: market CN, exchange SZ"
    assert "cn.etf.sz" in conflict[1]
    assert "asset" in conflict[-1]


def test_a_resolution_is_plain_data_for_jsonl() -> None:
    line = json.loads(json.dumps(resolve("FPT.VN").to_dict()))
    assert line["raw"] == "FPT.VN"
    assert (line["status"], line["symbol"], line["code"]) == ("resolved", "VN:STOCK:FPT", None)
    assert line["rule_id"] == "vn.stock"


def test_the_market_may_be_given_in_any_case_and_blank_hints_are_none() -> None:
    assert resolve("ibm", market="us").symbol == resolve("IBM", market="US").symbol == "US:STOCK:IBM"
    assert resolve("IBM.US", market="", asset=" ").symbol == "US:STOCK:IBM"


def test_an_asset_that_the_ticker_cannot_show_is_taken_from_the_caller() -> None:
    assert resolve("ABCD", market="us", asset="ETF").symbol == "US:ETF:ABCD"
    assert resolve("ABCD", market="us", asset="equity").symbol == "US:STOCK:ABCD"
    assert resolve("SPY", market="us").symbol == "US:ETF:SPY"
    assert resolve("7200", market="hk", asset="etf").symbol == "HK:ETF:07200"


def test_strict_resolution_raises_an_error_that_helps() -> None:
    assert resolve_strict("700.HK") == "HK:STOCK:00700"
    with pytest.raises(UnknownSymbol) as caught:
        resolve_strict("FPT.VN", market="us")
    assert caught.value.context["reason"] == "MARKET_CONFLICT"
    assert caught.value.hint
    assert "FPT.VN" in str(caught.value)


def test_only_a_canonical_symbol_is_parsed_and_the_hint_names_the_right_one() -> None:
    parts = parse_canonical("CN:STOCK:SZ000001")
    assert (parts.market, parts.asset, parts.code, str(parts)) == ("CN", "STOCK", "SZ000001", "CN:STOCK:SZ000001")
    with pytest.raises(UnknownSymbol) as caught:
        parse_canonical("CN:STOCK:000001")
    assert "CN:STOCK:SZ000001" in caught.value.hint
    for wrong in ("AAPL", "us:stock:aapl", "US:STOCK:BRK-B", "VN:STOCK:TOOLONG", ""):
        with pytest.raises(UnknownSymbol):
            parse_canonical(wrong)


# --- one instrument, one identifier ----------------------------------------------------------------------------------


def test_no_chinese_number_but_000_is_two_listed_instruments() -> None:
    for prefix in range(1000):
        found = resolve(f"{prefix:03d}123", market="cn")
        assert (found.code == "AMBIGUOUS_ASSET") == (prefix == 0), found


def test_no_chinese_number_is_two_instruments_under_one_asset() -> None:
    for prefix in range(1000):
        for asset in ASSETS:
            assert resolve(f"{prefix:03d}123", market="cn", asset=asset).code != "AMBIGUOUS_ASSET"


def test_a_listed_fund_is_not_also_an_over_the_counter_fund() -> None:
    for prefix in range(1000):
        code = f"{prefix:03d}123"
        found = resolve(code, market="cn").symbol
        if found and found.startswith(("CN:ETF", "CN:FUND")):
            assert resolve(f"OF{code}").symbol is None


def test_a_krx_code_is_its_contract_for_every_year_and_month() -> None:
    codes = set()
    for root in KRX_ROOTS.values():
        for year in range(2017, 2047):
            for month in range(1, 13):
                contract = f"{root}F{year % 100:02d}{month:02d}"
                code = krx_code(contract)
                assert code is not None
                codes.add(code)
                assert resolve(code, market="vn").symbol == f"VN:FUTURES:{contract}"
    assert len(codes) == len(KRX_ROOTS) * 30 * 12
    assert krx_code("VN30F1M") is None


def test_names_are_spelled_once_per_market_and_resolve_to_themselves() -> None:
    seen: dict[tuple[str, str], str] = {}
    for name in names():
        assert seen.setdefault((name.market, name.spelling.upper()), name.symbol) == name.symbol
        assert resolve(name.spelling, market=name.market, asset=name.asset).symbol == name.symbol
        assert resolve(name.symbol).symbol == name.symbol
        if name.implied == "yes":
            assert resolve(name.spelling, market=name.market).symbol == name.symbol


def test_rules_and_forms_have_stable_distinct_names() -> None:
    ids = [rule.rule_id for rules in RULES.values() for rule in rules] + [form.rule_id for form in FORMS]
    ids += [alias.rule_id for listed in aliases().values() for alias in listed]
    assert len(ids) == len(set(ids))
    assert all(rule.market == market for market, rules in RULES.items() for rule in rules)
    assert set(RULES) == {spec.prefix for spec in MARKETS.values()}


# --- real lists ------------------------------------------------------------------------------------------------------


@pytest.mark.shared
def test_the_known_cases_resolve_as_agreed(shared_cases: Path) -> None:
    with (shared_cases / "symbols.csv").open(encoding="utf-8", newline="") as file:
        cases = list(csv.DictReader(file))
    wrong = []
    for case in cases:
        found = resolve(case["raw"], market=case["market_hint"], asset=case["asset_hint"])
        answer = (found.status, found.symbol or "", found.code or "")
        if answer != (case["expected_status"], case["expected_canonical"], case["unresolved_code"]):
            wrong.append((case, answer))
    assert len(cases) > 100
    assert not wrong


@pytest.mark.shared
@pytest.mark.parametrize(
    ("table", "column", "market", "unresolved"),
    [
        ("vn_listing_cafef", "Symbol", "vn", {"HNX"}),  # also the name of the exchange's index
        ("vn_listing_sectors", "symbol", "vn", {"VNI"}),  # also a name of the VN-Index
        ("us_yahoo_sp500_asof_2026_03", "symbol", "us", set()),
        ("us_sp500_membership", "ticker", "us", set()),
        ("us_lean_daily_raw", "symbol", "us", set()),
        ("cn_hikyuu_daily_raw_8", "symbol", None, set()),
        ("vn_index_daily", "symbol", "vn", set()),
    ],
)
def test_real_lists_resolve_to_as_many_identifiers_as_they_have_symbols(
    shared_data: Path, table: str, column: str, market: str | None, unresolved: set[str]
) -> None:
    raw = pl.scan_parquet(shared_data / f"{table}.parquet").select(pl.col(column).unique().alias("raw_symbol"))
    found = resolve_frame(raw.collect(), market=market)
    assert set(found.filter(pl.col("symbol").is_null())["raw_symbol"]) == unresolved
    assert found["symbol"].drop_nulls().is_unique().all()
