"""What people can rely on at the command line: commands, formats, errors and exit statuses."""

from __future__ import annotations

import io
import json
import resource
import shlex
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime
from pathlib import Path

import polars as pl
import pytest

from tests.cli_kit import Vprism, program, vprism_fixture  # noqa: F401
from tests.fault_server import FaultServer, fault_server_fixture  # noqa: F401
from tests.warehouse_fixture import copy_of, house_at, sample_house_fixture  # noqa: F401
from vprism_pipelines import __version__
from vprism_pipelines.warehouse.house import House

HEAVY = ("polars", "duckdb", "dagster", "rich", "pydantic", "loguru", "aiohttp", "numpy", "pandas", "asyncio")


# --- help, version, global options --------------------------------------------------------------------------------


def test_help_comes_at_once_because_nothing_heavy_is_loaded() -> None:
    script = "import sys; from vprism_pipelines.serving.cli import main; main(['--help'])"
    script += f"; print([name for name in {HEAVY} if name in sys.modules])"

    def cost() -> float:
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert ended.stdout.splitlines()[-1] == "[]"
        assert "providers" in ended.stdout
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    # Processor time, since the machine may be busy; and the best of three, since cores are shared.
    assert min(cost() for _ in range(3)) < 0.4


@pytest.mark.parametrize("words", [[], ["--help"], ["-h"], ["sql", "--help"], ["data"], ["data", "fetch", "-h"]])
def test_help_is_on_stdout_and_no_error(vprism: Vprism, words: list[str]) -> None:
    ended = vprism(*words)
    assert (ended.status, ended.err) == (0, "")
    assert ended.out.startswith("Usage: vprism")
    assert "--format" in ended.out


@pytest.mark.parametrize("words", [["--version"], ["sql", "--version"], ["symbol", "resolve", "--version"]])
def test_the_version_can_be_asked_for_anywhere(vprism: Vprism, words: list[str]) -> None:
    assert vprism(*words).out == f"vprism {__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--format", "csv", "symbol", "resolve", "AAPL.US"],
        ["symbol", "--format", "csv", "resolve", "AAPL.US"],
        ["symbol", "resolve", "--format", "csv", "AAPL.US"],
        ["symbol", "resolve", "AAPL.US", "--format=csv"],
        ["--format", "jsonl", "symbol", "--format", "table", "resolve", "AAPL.US", "--format", "csv"],
    ],
)
def test_global_options_work_before_and_after_every_subcommand_and_the_last_one_wins(
    vprism: Vprism, words: list[str]
) -> None:
    ended = vprism(*words)
    assert ended.status == 0
    assert ended.out.splitlines()[0] == "raw,status,symbol,code,rule_id,diagnostics"
    assert "US:STOCK:AAPL" in ended.out


def documented() -> list[list[str]]:
    text = (Path(__file__).resolve().parent.parent / "docs" / "cli.md").read_text(encoding="utf-8")
    lines = [line.partition("# ")[0].partition(" < ")[0] for line in text.splitlines() if line.startswith("vprism ")]
    return [shlex.split(line)[1:] for line in lines]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_every_documented_command_line_is_understood(vprism: Vprism, words: list[str]) -> None:
    ended = vprism(*words, "--help")  # read, not run
    assert (ended.status, ended.err) == (0, "")


# --- errors: code, message, where, what to do, exit status ------------------------------------------------------------

FUTURE = "2190-01-01"
BAD_INPUT: list[tuple[list[str], int, str, str]] = [
    (["nonsense"], 10, "INVALID_INPUT", "nonsense"),
    (["sql"], 10, "INVALID_INPUT", "query"),
    (["sql", "SELECT 1", "--format", "xml"], 10, "INVALID_INPUT", "xml"),
    (["sql", "SELECT 1", "--colour"], 10, "INVALID_INPUT", "--colour"),
    (["sql", "SELECT 1", "--log-level", "loud"], 10, "INVALID_INPUT", "loud"),
    (["sql", "SELECT 1", "--output", "/no/such/folder/x.csv"], 10, "INVALID_INPUT", "/no/such/folder"),
    (["sql", ""], 10, "INVALID_QUERY", "no statement"),
    (["sql", "SELEC 1"], 10, "INVALID_QUERY", "SELEC"),
    (["sql", "FROM golden.bar"], 10, "INVALID_QUERY", "bar"),
    (["sql", "SELECT clos FROM golden.bars"], 10, "INVALID_QUERY", "clos"),
    (["sql", "DELETE FROM golden.bars"], 10, "INVALID_QUERY", "read-only"),
    (["sql", "CREATE TABLE mine (a INTEGER)"], 10, "INVALID_QUERY", "read-only"),
    (["sql", "SELECT 1 AS a, 2 AS a"], 10, "INVALID_QUERY", "a name of its own"),
    (["sql", "SELECT INTERVAL 1 DAY"], 10, "INVALID_QUERY", "CAST"),
    (["sql", "SELECT 'a'::BLOB AS b", "--format", "csv"], 10, "INVALID_QUERY", "hex(b)"),
    (["run", "--market", "uss"], 10, "UNKNOWN_MARKET", "did you mean us?"),
    (["run", "--provider", "samlpe"], 10, "UNKNOWN_PROVIDER", "did you mean sample?"),
    (["run", "--market", "vn", "--provider", "sample"], 10, "UNKNOWN_PROVIDER", "does not serve"),
    (["run", "--symbols", "AAPL,IBMM"], 10, "UNKNOWN_SYMBOL", "did you mean IBM?"),
    (["run", "--start", "2012-02-30"], 10, "INVALID_RANGE", "start '2012-02-30'"),
    (["run", "--end", "soon"], 10, "INVALID_RANGE", "end 'soon'"),
    (["run", "--start", "2012-02-02", "--end", "2012-02-01"], 10, "INVALID_RANGE", "swap"),
    (["run", "--start", FUTURE], 10, "INVALID_RANGE", "future"),
    (["data", "fetch", "AAPL", "--start", FUTURE], 10, "INVALID_RANGE", "future"),
    (["data", "fetch", "AAPL", "--start", "2012-02-02", "--end", "2012-02-01"], 10, "INVALID_RANGE", "swap"),
    (["data", "fetch", "APPL"], 10, "UNKNOWN_SYMBOL", "did you mean AAPL?"),
    (["data", "fetch", "no such thing"], 10, "UNKNOWN_SYMBOL", "no such thing"),
    (["data", "fetch", "AAPL.US", "FPT.VN"], 10, "INVALID_INPUT", "one market at a time"),
    (["data", "fetch", "AAPL", "--provider", "gopher"], 10, "UNKNOWN_PROVIDER", "gopher"),
    (["data", "fetch", "AAPL", "--start", "2013-06-01"], 20, "NO_DATA", "2000-03-01 to 2013-03-01"),
    (["data", "fetch", "AAPL", "--provider", "yahoo"], 20, "UNAVAILABLE", "VPRISM_OFFLINE"),
    (["data", "adjust", "AAPL", "--mode", "sideways"], 10, "INVALID_INPUT", "sideways"),
    (["data", "adjust", "APPL"], 10, "UNKNOWN_SYMBOL", "did you mean AAPL?"),
    (["data", "adjust", "AAPL", "--start", FUTURE], 10, "INVALID_RANGE", "future"),
    (["data", "adjust", "AAPL", "--as-of", "2024-01-31"], 10, "INVALID_RANGE", "offset"),
    (["data", "history", "AAPL", "2005-02-27"], 10, "INVALID_RANGE", "2005-02-25 and 2005-02-28"),
    (["data", "history", "ZZZ", "2005-02-28"], 10, "UNKNOWN_SYMBOL", "SELECT DISTINCT symbol"),
    (["symbol", "resolve"], 10, "INVALID_INPUT", "no symbol"),
    (["symbol", "resolve", "--file", "/no/such.csv"], 10, "INVALID_INPUT", "/no/such.csv"),
    (["symbol", "resolve", "000001", "FB"], 10, "UNKNOWN_SYMBOL", "none of 2"),
    (["calendar", "sessions", "HOES"], 10, "INVALID_INPUT", "did you mean HOSE?"),
    (["calendar", "sessions", "XNYS", "--start", "1066-10-14"], 10, "BEYOND_HORIZON", "1990-01-01"),
    (["providers", "test", "yaho"], 10, "UNKNOWN_PROVIDER", "did you mean yahoo?"),
    (["providers", "test", "sample", "--symbol", "GOOOG"], 10, "UNKNOWN_SYMBOL", "did you mean GOOG?"),
    (["providers", "test", "yahoo"], 20, "UNAVAILABLE", "VPRISM_OFFLINE"),
    (["replay", "--market", "mars"], 10, "UNKNOWN_MARKET", "mars"),
]


@pytest.mark.parametrize(("words", "status", "code", "told"), BAD_INPUT, ids=lambda value: str(value)[:60])
def test_an_error_says_what_where_and_what_to_do_and_exits_with_its_status(
    vprism: Vprism,
    tmp_path: Path,
    sample_house: House,
    words: list[str],
    status: int,
    code: str,
    told: str,
) -> None:
    fetching = words[:2] == ["data", "fetch"]
    house = copy_of(sample_house, tmp_path / "data") if fetching and status == 20 else sample_house
    ended = vprism(*words, house=house)
    assert ended.status == status
    # A fetch that brought nothing first lists what was refused and why.
    assert f"error {code}: " in ended.err if fetching else ended.err.startswith(f"error {code}: ")
    assert told in ended.err
    assert "\n  do: " in ended.err
    as_json = vprism(*words, "--format", "jsonl", house=house) if "xml" not in words and "csv" not in words else None
    if as_json and as_json.err:
        error = json.loads(as_json.err.splitlines()[-1])
        assert (as_json.status, error["code"]) == (status, code)
        assert told in f"{error['message']} {error['hint']} {error['context']}"


def test_a_published_warehouse_is_needed_to_query_and_the_error_says_how_to_get_one(
    vprism: Vprism, tmp_path: Path
) -> None:
    for words in (
        ["sql", "SELECT 1"],
        ["health"],
        ["data", "adjust", "AAPL"],
        ["data", "history", "AAPL", "2005-02-28"],
    ):
        ended = vprism(*words, house=house_at(tmp_path))
        assert (ended.status, ended.out) == (50, "")
        assert ended.err.startswith("error NOT_PUBLISHED: nothing has been published yet\n  where: path=")
        assert "vprism run" in ended.err


def test_an_unexpected_failure_is_short_and_shows_its_traceback_only_to_those_who_debug(
    vprism: Vprism, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object) -> None:
        raise ZeroDivisionError("the moon is in the wrong house")

    monkeypatch.setattr("vprism_pipelines.serving.library.Library.sql", broken)
    ended = vprism("sql", "SELECT 1")
    assert ended.status == 50
    assert ended.err.startswith("error SYSTEM_ERROR: ZeroDivisionError: the moon is in the wrong house\n  do: ")
    assert "Traceback" not in ended.err
    assert "Traceback" in vprism("sql", "SELECT 1", "--log-level", "debug").err


def test_secrets_are_taken_out_of_everything_that_is_said(vprism: Vprism, sample_house: House) -> None:
    house = house_at(sample_house.settings.data_dir, alpha_vantage_api_key="hunter2secret")
    ended = vprism("sql", "SELECT hunter2secret", house=house)
    assert ended.status == 10
    assert "hunter2secret" not in ended.err
    assert "REDACTED" in ended.err


@pytest.mark.parametrize(
    ("variable", "value"),
    [("LOG_LEVEL", "loud"), ("DUCKDB_THREADS", "-1"), ("VPRISM_UNIVERSE", "{us"), ("PROVIDER_TIMEOUT", "s3cr3t")],
)
def test_a_wrong_setting_is_named_by_its_variable_and_its_value_is_not_repeated(
    tmp_path: Path, variable: str, value: str
) -> None:
    ended = program("sql", "SELECT 1", data=tmp_path, **{variable: value})
    assert ended.returncode == 10
    assert ended.stderr.startswith(f"error INVALID_CONFIGURATION: {variable}")
    assert f"{value}" not in ended.stderr.replace("LOG_LEVEL", "")


# --- sql ----------------------------------------------------------------------------------------------------------


def test_sql_reads_from_stdin_when_the_query_is_a_dash(vprism: Vprism, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.StringIO("SELECT count(*) AS bars\n-- all of them\nFROM golden.bars;\n"))
    assert vprism("sql", "-", "--format", "csv").out == "bars\n12154\n"


def test_a_table_is_cut_and_says_how_to_get_the_rest(vprism: Vprism) -> None:
    ended = vprism("sql", "FROM golden.bars")
    assert "… 12,114 more rows, use --format csv" in ended.out
    assert len(ended.out.splitlines()) < 50
    assert len(vprism("sql", "FROM golden.bars", "--format", "csv").out.splitlines()) == 12_155


@pytest.mark.parametrize(
    ("name", "read"),
    [("bars.csv", pl.read_csv), ("bars.jsonl", pl.read_ndjson), ("bars.parquet", pl.read_parquet)],
)
def test_the_suffix_of_the_output_file_decides_the_format(
    vprism: Vprism, tmp_path: Path, name: str, read: Callable[[Path], pl.DataFrame]
) -> None:
    ended = vprism("sql", "SELECT symbol, close FROM golden.bars ORDER BY ALL", "--output", str(tmp_path / name))
    assert ended.out == ""
    assert "12,154 rows in" in ended.err
    frame = read(tmp_path / name)
    assert frame.shape == (12_154, 2)
    assert frame["close"].sum() == pytest.approx(frame["close"].cast(pl.Float64).sum())


def test_a_format_that_was_asked_for_beats_the_suffix_and_a_table_in_a_file_is_whole(
    vprism: Vprism, tmp_path: Path
) -> None:
    vprism("sql", "FROM range(1000) AS t(n)", "--format", "table", "--output", str(tmp_path / "n.csv"))
    assert len((tmp_path / "n.csv").read_text().splitlines()) > 1000


# --- symbols and calendars --------------------------------------------------------------------------------------------


def test_symbols_are_resolved_to_jsonl_and_some_may_fail(vprism: Vprism) -> None:
    ended = vprism("symbol", "resolve", "AAPL", "nonsense!!", "--market", "us")
    assert ended.status == 0
    assert [(row["raw"], row["status"], row["symbol"], row["code"]) for row in ended.rows] == [
        ("AAPL", "resolved", "US:STOCK:AAPL", None),
        ("nonsense!!", "unresolved", None, "PATTERN"),
    ]


def test_when_no_symbol_is_resolved_each_is_still_printed(vprism: Vprism) -> None:
    ended = vprism("symbol", "resolve", "000001", "FB")
    assert ended.status == 10
    assert [row["code"] for row in ended.rows] == ["MARKET_REQUIRED", "MARKET_REQUIRED"]


def test_a_renamed_symbol_is_followed_from_the_date_it_was_spelled_on(vprism: Vprism) -> None:
    words = ["symbol", "resolve", "FB", "--market", "us"]
    assert vprism(*words).rows[0]["symbol"] == "US:STOCK:FB"
    assert vprism(*words, "--as-of", "2015-06-01").rows[0]["symbol"] == "US:STOCK:META"


def test_a_file_of_symbols_carries_its_own_hints_and_other_columns_are_ignored(vprism: Vprism, tmp_path: Path) -> None:
    file = tmp_path / "symbols.csv"
    file.write_text('note,raw,market_hint,asset_hint\n"a, note",000001,CN,index\n,000001,CN,stock\n,,US,\n,FPT.VN,,\n')
    rows = vprism("symbol", "resolve", "--file", str(file)).rows
    assert [row["symbol"] for row in rows] == ["CN:INDEX:SH000001", "CN:STOCK:SZ000001", None, "VN:STOCK:FPT"]
    assert rows[2]["code"] == "EMPTY"
    assert vprism("symbol", "resolve", "AAPL", "--file", str(file)).status == 10
    file.write_text("ticker\nAAPL\n")
    assert "no column raw" in vprism("symbol", "resolve", "--file", str(file)).err


@pytest.mark.shared
def test_the_recorded_symbol_cases_come_out_as_expected(vprism: Vprism, shared_cases: Path) -> None:
    cases = pl.read_csv(shared_cases / "symbols.csv", infer_schema=False)
    rows = vprism("symbol", "resolve", "--file", str(shared_cases / "symbols.csv")).rows
    assert [row["raw"] for row in rows] == cases["raw"].fill_null("").to_list()
    assert [row["status"] for row in rows] == cases["expected_status"].to_list()
    assert [row["symbol"] for row in rows] == cases["expected_canonical"].to_list()


@pytest.mark.parametrize(("name", "days"), [("us", 4), ("XNYS", 4), ("nasdaq", 4), ("HOSE", 5), ("vn", 5)])
def test_sessions_are_listed_by_market_exchange_or_calendar(vprism: Vprism, name: str, days: int) -> None:
    # Monday 2024-01-15 is Martin Luther King day.
    ended = vprism("calendar", "sessions", name, "--start", "2024-01-15", "--end", "2024-01-21", "--format", "jsonl")
    assert len(ended.rows) == days
    assert ended.rows[-1]["session"] == "2024-01-19"
    assert ended.rows[-1]["close"].endswith("Z")


def test_the_horizon_names_every_calendar(vprism: Vprism) -> None:
    rows = vprism("calendar", "horizon", "--format", "jsonl").rows
    assert {row["calendar"] for row in rows} == {"XNYS", "XSHG", "XHKG", "XSTC", "HSTC"}
    assert all(row["first_session"] < row["confirmed_until"] <= row["last_session"] for row in rows)


# --- data -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "closes"), [("none", [88.99, 44.86]), ("split", [44.495, 44.86])])
def test_adjusted_bars_come_on_the_basis_asked_for(vprism: Vprism, mode: str, closes: list[float]) -> None:
    words = ["data", "adjust", "AAPL", "--mode", mode, "--start", "2005-02-25", "--end", "2005-02-28"]
    assert [row["close"] for row in vprism(*words, "--format", "jsonl").rows] == closes


def test_a_range_without_bars_is_an_empty_answer_that_says_where_there_are_some(vprism: Vprism) -> None:
    ended = vprism("data", "adjust", "AAPL", "--start", "2014-01-01", "--end", "2014-02-01")
    assert ended.status == 0
    assert "no rows\nUS:STOCK:AAPL has bars from 2000-03-01 to 2013-03-01\n" in ended.out


def test_the_history_of_a_bar_tells_who_said_what_and_until_when_it_was_believed(vprism: Vprism) -> None:
    (row,) = vprism("data", "history", "AAPL", "2005-02-28", "--format", "jsonl").rows
    assert (row["provider"], row["close"], row["known_to"], row["change_class"]) == ("sample", 44.86, None, "new")
    assert row["fetch_id"]


def test_fetching_shows_clean_rows_and_publishes_nothing(vprism: Vprism, tmp_path: Path) -> None:
    house = house_at(tmp_path)
    words = ["data", "fetch", "MSFT", "AAPL", "--start", "2005-02-25", "--end", "2005-02-28", "--format", "jsonl"]
    first = vprism(*words, house=house)
    assert (first.status, first.err) == (0, "")
    assert [(row["symbol"], row["session"]) for row in first.rows] == [
        ("US:STOCK:AAPL", "2005-02-25"),
        ("US:STOCK:AAPL", "2005-02-28"),
        ("US:STOCK:MSFT", "2005-02-25"),
        ("US:STOCK:MSFT", "2005-02-28"),
    ]
    assert not house.settings.database.exists()
    again = vprism(*words, house=house)
    assert again.rows == first.rows  # from the archive: the same pull


def test_fetching_shows_corporate_actions_when_asked_to(vprism: Vprism, tmp_path: Path) -> None:
    words = ["data", "fetch", "AAPL", "--dataset", "actions", "--start", "2005-01-01", "--end", "2005-12-31"]
    (row,) = vprism(*words, "--format", "jsonl", house=house_at(tmp_path)).rows
    assert (row["ex_date"], row["event_type"], row["split_ratio"], row["inferred"]) == (
        "2005-02-28",
        "split",
        2.0,
        True,
    )


def chart(days: list[date], closes: list[float], highs: list[float]) -> bytes:
    """A small answer in Yahoo's format."""
    stamps = [int(datetime(day.year, day.month, day.day, 14, 30, tzinfo=UTC).timestamp()) for day in days]
    meta = {"currency": "USD", "symbol": "AAPL", "exchangeTimezoneName": "America/New_York", "instrumentType": "EQUITY",
            "exchangeName": "NMS", "regularMarketTime": stamps[-1] + 390 * 60, "dataGranularity": "1d"}  # fmt: skip
    quote = {"open": closes, "high": highs, "low": closes, "close": closes, "volume": [100] * len(days)}
    indicators = {"quote": [quote], "adjclose": [{"adjclose": closes}]}
    result = {"meta": meta, "timestamp": stamps, "indicators": indicators}
    return json.dumps({"chart": {"result": [result], "error": None}}).encode()


@pytest.fixture
def upstream(fault_server: FaultServer, tmp_path: Path) -> tuple[FaultServer, House]:
    """A server in the place of Yahoo, and an installation that asks it."""
    base = {"yahoo": fault_server.url_for("yahoo")}
    return fault_server, house_at(tmp_path, offline=False, provider_base_urls=base)


def test_what_was_not_believed_is_counted_by_reason_on_stderr(
    vprism: Vprism, upstream: tuple[FaultServer, House]
) -> None:
    server, house = upstream
    days = [date(2024, 1, 2), date(2024, 1, 3), date(2024, 1, 4)]
    server.serve("/v8/finance/chart/AAPL", chart(days, [185.5, 184.25, 181.75], [186.0, 180.0, 182.0]))
    server.fault("/v8/finance/chart/MSFT", "html_200")
    words = ["data", "fetch", "AAPL", "MSFT", "--provider", "yahoo", "--start", "2024-01-02", "--end", "2024-01-04"]
    ended = vprism(*words, "--format", "jsonl", house=house)
    assert ended.status == 0
    assert [(row["session"], row["close"]) for row in ended.rows] == [("2024-01-02", 185.5), ("2024-01-04", 181.75)]
    told = {(row["what"], row["reason"]): row["count"] for row in map(json.loads, ended.err.splitlines())}
    assert told == {("requests", "MALFORMED"): 1, ("rows", "price_order"): 1} or told == {
        ("requests", "BLOCKED"): 1,
        ("rows", "price_order"): 1,
    }


def test_a_provider_that_answers_a_web_page_with_200_is_an_error_of_the_provider(
    vprism: Vprism, upstream: tuple[FaultServer, House]
) -> None:
    server, house = upstream
    server.fault("/v8/finance/chart/AAPL", "html_200")
    for words in (["data", "fetch", "AAPL", "--provider", "yahoo"], ["providers", "test", "yahoo", "--symbol", "AAPL"]):
        ended = vprism(*words, house=house)
        assert ended.status == 20
        assert ended.err.startswith(("error MALFORMED: ", "error BLOCKED: "))
        assert "\n  do: " in ended.err


# --- providers --------------------------------------------------------------------------------------------------------


def test_providers_are_listed_with_what_they_offer_and_never_a_key(vprism: Vprism, tmp_path: Path) -> None:
    house = house_at(tmp_path, alpha_vantage_api_key="hunter2secret", quandl_api_key="hunter3secret")
    ended = vprism("providers", "list", "--format", "jsonl", house=house)
    rows = {row["provider"]: row for row in ended.rows}
    assert rows["sample"]["network"] is False
    assert rows["sample"]["key_needed"] is None
    assert rows["yahoo"]["quota"].startswith("60/min")
    assert "hunter" not in ended.out + ended.err
    for row in rows.values():
        assert row["key_present"] is (None if row["key_needed"] is None else True)


def test_the_sample_answers_a_test_without_network_and_archives_nothing(vprism: Vprism, tmp_path: Path) -> None:
    (row,) = vprism("providers", "test", "sample", "--format", "jsonl", house=house_at(tmp_path)).rows
    assert (row["outcome"], row["newest"], row["status"]) == ("OK", "2013-03-01", 200)
    assert not (tmp_path / "lake").exists()


def test_a_test_tells_latency_and_outcome_of_one_real_request(
    vprism: Vprism, upstream: tuple[FaultServer, House]
) -> None:
    server, house = upstream
    today = datetime.now(UTC).date()
    days = pl.date_range(date(today.year - 1, 12, 1), today, eager=True).to_list()[-8:]
    server.serve("/v8/finance/chart/*", chart(days, [1.5] * 8, [2.0] * 8))
    (row,) = vprism("providers", "test", "yahoo", "--format", "jsonl", house=house).rows
    assert row["outcome"] == "OK"
    assert row["latency_ms"] > 0
    assert row["rows"] > 0
    assert server.count() == 1
    refused = vprism("providers", "test", "yahoo", "--format", "jsonl", house=house_at(house.settings.data_dir))
    assert refused.status == 20
    assert refused.rows[0]["outcome"] == json.loads(refused.err)["code"] == "UNAVAILABLE"
