"""Providers' spellings, and the laws that hold for every symbol."""

from __future__ import annotations

import json
from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from vprism_pipelines.errors import UnknownProvider, UnknownSymbol
from vprism_pipelines.market.spec import MARKETS
from vprism_pipelines.market.symbols import (
    ASSETS,
    parse_canonical,
    resolve,
    resolve_strict,
    to_provider,
)
from vprism_pipelines.market.symbols.rules import KRX_ROOTS
from vprism_pipelines.market.symbols.tables import names

# --- spellings of providers ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("symbol", "provider", "spelling"),
    [
        ("US:STOCK:BRK.B", "yahoo", "BRK-B"),
        ("US:STOCK:BAC.PR.L", "yahoo", "BAC-PL"),
        ("US:WARRANT:AAC.WS", "yahoo", "AAC-WT"),
        ("US:INDEX:SPX", "yahoo", "^GSPC"),
        ("HK:STOCK:00700", "yahoo", "0700.HK"),
        ("HK:STOCK:80700", "yahoo", "80700.HK"),
        ("HK:INDEX:HSCEI", "yahoo", "^HSCE"),
        ("CN:STOCK:SH600519", "yahoo", "600519.SS"),
        ("CN:INDEX:SH000001", "yahoo", "000001.SS"),
        ("CN:STOCK:SZ000001", "yahoo", "000001.SZ"),
        ("VN:STOCK:FPT", "yahoo", "FPT.VN"),
        ("US:STOCK:BRK.B", "alpha_vantage", "BRK-B"),
        ("US:STOCK:BAC.PR.L", "alpha_vantage", "BAC-P-L"),
        ("US:WARRANT:AAC.WS", "alpha_vantage", "AAC-WS"),
        ("CN:STOCK:SH600104", "alpha_vantage", "600104.SHH"),
        ("US:STOCK:BRK.B", "nasdaq_data_link", "BRK_B"),
        ("CN:STOCK:SH600519", "tencent", "sh600519"),
        ("CN:STOCK:BJ920002", "tencent", "bj920002"),
        ("CN:STOCK:BJ920002", "sina", "bj920002"),
        ("CN:INDEX:SH000001", "sina", "sh000001"),
        ("HK:STOCK:00700", "tencent", "hk00700"),
        ("HK:INDEX:HSI", "tencent", "hkHSI"),
        ("CN:STOCK:SH600519", "eastmoney", "1.600519"),
        ("CN:STOCK:BJ920002", "eastmoney", "0.920002"),
        ("CN:INDEX:SZ399001", "eastmoney", "0.399001"),
        ("HK:STOCK:00700", "eastmoney", "116.00700"),
        ("VN:STOCK:FPT", "vci", "FPT"),
        ("VN:INDEX:HNXINDEX", "vci", "HNXIndex"),
        ("VN:INDEX:UPCOMINDEX", "vci", "HNXUpcomIndex"),
        ("VN:FUTURES:VN30F2507", "vci", "41I1F7000"),
        ("VN:FUTURES:VN30F2309", "vci", "VN30F2309"),
        ("VN:FUTURES:VN30F1M", "kbs", "VN30F1M"),
        ("VN:INDEX:HNXINDEX", "kbs", "HNXINDEX"),
        ("US:STOCK:AAPL", "sample", "AAPL"),
        ("VN:STOCK:FPT", "simulated", "FPT"),
        ("HK:STOCK:00700", "files", "HK:STOCK:00700"),
    ],
)
def test_a_provider_is_asked_in_its_own_spelling(symbol: str, provider: str, spelling: str) -> None:
    assert to_provider(symbol, provider) == spelling


@pytest.mark.parametrize(
    ("symbol", "provider"),
    [
        ("VN:STOCK:FPT", "tencent"),
        ("US:STOCK:AAPL", "eastmoney"),
        ("CN:FUND:OF005827", "eastmoney"),
        ("CN:STOCK:BJ920002", "yahoo"),
        ("US:INDEX:SPX", "alpha_vantage"),
        ("VN:INDEX:VNFIN", "kbs"),
        ("HK:INDEX:HSTECH", "eastmoney"),
        ("AAPL", "yahoo"),
    ],
)
def test_a_spelling_that_a_provider_does_not_have_is_refused(symbol: str, provider: str) -> None:
    with pytest.raises(UnknownSymbol) as caught:
        to_provider(symbol, provider)
    assert caught.value.hint


def test_an_unknown_provider_is_refused() -> None:
    with pytest.raises(UnknownProvider):
        to_provider("US:STOCK:AAPL", "nobody")


def test_every_provider_of_a_market_can_spell_its_universe() -> None:
    spelled = 0
    for spec in MARKETS.values():
        symbols = [resolve_strict(code, market=spec.code) for code in spec.universe]
        for provider in spec.providers:
            spelled += len({to_provider(symbol, provider) for symbol in symbols})
    assert spelled


# --- laws ------------------------------------------------------------------------------------------------------------

_digits = st.text("0123456789", min_size=1, max_size=7)
_root = st.text("ABCDEFGHIJKLMNOPQRSTUVWXYZ", min_size=1, max_size=5)
_tail = st.sampled_from(["", "-A", ".B", "/C", "_D", " E", "-PA", " PR-B", "^C", "-P", "-WS", "-WT", "-U", "-R", "-UN"])
_vietnamese = st.one_of(
    st.text("ABCHNVX0123456789", min_size=3, max_size=3),
    st.builds(str.__add__, st.sampled_from(["FUE", "FUC", "E1VFV"]), st.text("ANV35", min_size=3, max_size=5)),
    st.builds("C{}{:02d}{:02d}".format, st.sampled_from(["HPG", "L14"]), st.integers(17, 52), st.integers(0, 99)),
    st.builds(
        "{}F{:02d}{:02d}".format,
        st.sampled_from(list(KRX_ROOTS.values())),
        st.integers(14, 49),
        st.integers(0, 14),
    ),
    st.builds(
        "41{}{}{}000".format,
        st.sampled_from(list(KRX_ROOTS)),
        st.sampled_from("0129ABCDEFGHIJKLMNOPQRSTUVWXYZ"),
        st.sampled_from("0129ABCD"),
    ),
)
_bare = st.one_of(
    _digits,
    st.builds(str.__add__, _root, _tail),
    _vietnamese,
    st.sampled_from(sorted({name.spelling for name in names()})),
)
_qualified = st.one_of(
    _bare,
    st.builds(
        str.__add__, st.sampled_from(["SH", "sz.", "BJ", "HK", "US.", "0.", "1.", "116.", "HOSE:", "CN:", "^"]), _bare
    ),
    st.builds(
        str.__add__, _bare, st.sampled_from([".SS", ".SZ", ".HK", ".VN", ".US", ".OF", " VN", " US Equity", ":BAT"])
    ),
)
_markets = st.sampled_from([None, "cn", "HK", "us", "VN"])
_assets = st.sampled_from([None, *ASSETS])
_days = st.one_of(st.none(), st.dates(date(1995, 1, 1), date(2030, 1, 1)))


@settings(max_examples=600)
@given(_qualified, _markets, _assets, _days)
def test_resolving_a_resolved_symbol_changes_nothing(
    raw: str, market: str | None, asset: str | None, day: date | None
) -> None:
    found = resolve(raw, market=market, asset=asset, as_of=day)
    if found.symbol is None:
        assert found.code
        assert found.diagnostics
        return
    assert resolve(found.symbol, as_of=day).symbol == found.symbol
    parts = parse_canonical(found.symbol)
    assert resolve(found.symbol, market=parts.market, asset=parts.asset, as_of=day).symbol == found.symbol
    assert resolve(parts.code, market=parts.market, asset=parts.asset, as_of=day).symbol == found.symbol


@settings(max_examples=300)
@given(_qualified, _markets, _assets, st.sampled_from(["", " ", "\u200b", "\t", "\u00a0", "\ufeff"]))
def test_case_and_surrounding_blanks_do_not_matter(raw: str, market: str | None, asset: str | None, blank: str) -> None:
    plain = resolve(raw, market=market, asset=asset)
    dressed = resolve(blank + raw.lower() + blank, market=market, asset=asset and asset.lower())
    assert (dressed.symbol, dressed.code, dressed.rule_id) == (plain.symbol, plain.code, plain.rule_id)


@settings(max_examples=300)
@given(_qualified, _markets)
def test_naming_the_asset_that_was_inferred_changes_nothing(raw: str, market: str | None) -> None:
    found = resolve(raw, market=market)
    if found.symbol:
        assert resolve(raw, market=market, asset=parse_canonical(found.symbol).asset).symbol == found.symbol


@settings(max_examples=600)
@given(
    _bare,
    st.sampled_from(["cn", "hk", "us", "vn"]),
    _assets,
    st.sampled_from(
        ["yahoo", "alpha_vantage", "nasdaq_data_link", "tencent", "sina", "eastmoney", "vci", "kbs", "files"]
    ),
)
def test_a_providers_spelling_comes_back_as_the_same_symbol(
    raw: str, market: str, asset: str | None, provider: str
) -> None:
    symbol = resolve(raw, market=market, asset=asset).symbol
    if symbol is None:
        return
    try:
        spelling = to_provider(symbol, provider)
    except UnknownSymbol:
        return
    assert resolve(spelling, market=market, asset=parse_canonical(symbol).asset).symbol == symbol


@settings(max_examples=300)
@given(st.text(max_size=40), _markets, _assets)
def test_no_text_breaks_the_resolver(raw: str, market: str | None, asset: str | None) -> None:
    found = resolve(raw, market=market, asset=asset)
    assert (found.symbol is None) == (found.status == "unresolved") == (found.code is not None)
    json.dumps(found.to_dict())
