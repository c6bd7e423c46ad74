"""What people can rely on in printed results: nothing is lost for machines, everything fits for people."""

from __future__ import annotations

import io
import json
import math
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from pathlib import Path

import duckdb
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from vprism_pipelines.errors import DataQualityError, InvalidInput, ProviderError
from vprism_pipelines.serving.cli.render import NOTHING, Answer, Format, Output

Capture = pytest.CaptureFixture[str]


def printed(capfd: Capture, frame: pl.DataFrame, form: Format) -> str:
    capfd.readouterr()
    assert Output(format=form).answer(Answer(frame)) == 0
    return capfd.readouterr().out


def written(frame: pl.DataFrame, form: Format, folder: Path) -> bytes:
    """The same through a file: hypothesis and captured streams do not mix."""
    file = folder / f"result.{form}"
    Output(format=form, path=file).answer(Answer(frame))
    return file.read_bytes()


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), min_size=1, max_size=12)
FRAMES = st.lists(
    st.fixed_dictionaries(
        {
            "symbol": WORDS,
            "session": st.dates(date(1900, 1, 1), date(2100, 1, 1)) | st.none(),
            "close": st.floats(allow_nan=False, allow_infinity=False) | st.none(),
            "volume": st.integers(-(2**63), 2**63 - 1) | st.none(),
            "flag": st.booleans() | st.none(),
        }
    ),
    min_size=1,
    max_size=8,
).map(
    lambda rows: pl.DataFrame(
        rows,
        schema={"symbol": pl.String, "session": pl.Date, "close": pl.Float64, "volume": pl.Int64, "flag": pl.Boolean},
    )
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results")


@given(frame=FRAMES)
def test_every_bit_of_every_number_survives_csv_jsonl_and_parquet(folder: Path, frame: pl.DataFrame) -> None:
    as_csv = pl.read_csv(io.BytesIO(written(frame, "csv", folder)), schema=frame.schema)
    assert_frame_equal(as_csv, frame, check_exact=True)
    as_jsonl = pl.read_ndjson(io.BytesIO(written(frame, "jsonl", folder)), schema=frame.schema)
    assert_frame_equal(as_jsonl, frame, check_exact=True)
    as_parquet = pl.read_parquet(io.BytesIO(written(frame, "parquet", folder)))
    assert_frame_equal(as_parquet, frame, check_exact=True)


@given(frame=FRAMES)
def test_a_table_has_a_line_for_every_row(folder: Path, frame: pl.DataFrame) -> None:
    table = written(frame, "table", folder).decode()
    lines = [line for line in table.split("\n") if line.strip()]
    assert len(lines) == frame.height + 2  # header and rule


@given(
    number=st.floats(min_value=1, max_value=1e14) | st.integers(1, 2**62),
    others=st.lists(st.floats(min_value=1, max_value=1e6), max_size=3),
)
def test_a_number_in_a_table_is_right_to_four_decimals(folder: Path, number: float, others: list[float]) -> None:
    frame = pl.DataFrame({"n": [number, *(others if isinstance(number, float) else [])]}, strict=False)
    shown = written(frame, "table", folder).decode().split("\n")[3].strip()
    assert float(shown.replace(",", "")) == pytest.approx(number, abs=0.5001e-4, rel=1e-15)


def test_integers_of_any_size_stay_numbers_in_json(capfd: Capture) -> None:
    big = pl.DataFrame(duckdb.sql("SELECT sum(x) AS n FROM (VALUES (9223372036854775807), (1)) t(x)").to_arrow_table())
    assert json.loads(printed(capfd, big, "jsonl")) == {"n": 2**63}
    assert printed(capfd, big, "csv") == f"n\n{2**63}\n"


def test_instants_are_iso_8601_in_utc_everywhere(capfd: Capture) -> None:
    moment = datetime(2024, 1, 2, 9, 30, 0, 123000, tzinfo=UTC)
    frame = pl.DataFrame({"at": [moment]}).with_columns(there=pl.col("at").dt.convert_time_zone("Asia/Ho_Chi_Minh"))
    for form in ("csv", "jsonl"):
        assert printed(capfd, frame, form).count("2024-01-02T09:30:00.123") == 2
        assert "+07" not in printed(capfd, frame, form)
    local = pl.DataFrame({"at": [datetime(2024, 1, 2, 9, 30)], "of": [time(9, 30)]})
    assert json.loads(printed(capfd, local, "jsonl")) == {"at": "2024-01-02T09:30:00", "of": "09:30:00"}


def test_lists_and_structs_are_json_in_a_csv_cell_and_in_jsonl(capfd: Capture) -> None:
    frame = pl.DataFrame({"reasons": [["a", 'b"c'], [], None], "pair": [{"x": 1}, {"x": None}, None]})
    cells = pl.read_csv(io.StringIO(printed(capfd, frame, "csv")))
    assert [json.loads(cell) if cell else None for cell in cells["reasons"]] == [["a", 'b"c'], [], None]
    assert [json.loads(cell) if cell else None for cell in cells["pair"]] == [{"x": 1}, {"x": None}, None]
    rows = [json.loads(line) for line in printed(capfd, frame, "jsonl").splitlines()]
    assert [row["reasons"] for row in rows] == [["a", 'b"c'], [], None]


def test_json_has_no_nan_and_a_table_shows_it(capfd: Capture) -> None:
    frame = pl.DataFrame({"x": [math.nan, math.inf, 1.5]})
    assert [json.loads(line)["x"] for line in printed(capfd, frame, "jsonl").splitlines()] == [None, None, 1.5]
    assert "nan" in printed(capfd, frame, "table")


@pytest.mark.parametrize(
    ("values", "shown"),
    [
        ([1234567, 1], ["1,234,567", "1"]),
        ([2024, 1999], ["2024", "1999"]),
        ([44.86, 44.5], ["44.86", "44.50"]),
        ([1.0, 2.0], ["1.0", "2.0"]),
        ([19730300.0, 10.0], ["19,730,300", "10"]),
        ([0.0123456789, -0.5], ["0.012346", "-0.500000"]),
        ([1e-12, 1.0], ["1e-12", "1.0"]),
        ([True, None], ["yes", NOTHING]),
        ([Decimal("1.50"), Decimal("10.25")], ["1.50", "10.25"]),
        ([timedelta(hours=1)], ["1:00:00"]),
        ([["a", "b"], []], ["a, b", ""]),
        (["[bold]x[/bold]", ":smile:"], ["[bold]x[/bold]", ":smile:"]),
        (["two\nlines", "\x1b[31mred", "a\u2028b"], ["two\\nlines", "\\x1b[31mred", "a\\u2028b"]),
    ],
    ids=str,
)
def test_cells_are_readable_and_never_interpreted(capfd: Capture, values: list[object], shown: list[str]) -> None:
    frame = pl.DataFrame({"first": ["|"] * len(values), "value": values, "last": ["|"] * len(values)})
    rows = printed(capfd, frame, "table").splitlines()[3:]
    assert [row.strip().strip("|").strip() for row in rows if "|" in row] == shown


def test_a_wide_table_keeps_both_ends_on_a_terminal_and_everything_elsewhere(
    capfd: Capture, monkeypatch: pytest.MonkeyPatch
) -> None:
    frame = pl.DataFrame({f"column_{i:02}": [123456.75] for i in range(30)})
    assert "column_15" in printed(capfd, frame, "table")
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("NO_COLOR", "1")
    shown = printed(capfd, frame, "table")
    assert "column_00" in shown
    assert "column_29" in shown
    assert "column_15" not in shown
    assert "columns left out, use --format csv" in shown
    assert max(map(len, shown.splitlines())) <= 100
    with pytest.raises(InvalidInput, match="binary"):
        Output(format="parquet").check()


def test_notes_follow_a_table_but_never_mix_with_data_for_machines(capfd: Capture) -> None:
    answer = Answer(pl.DataFrame({"a": [1]}), notes=("look here",))
    Output().answer(answer)
    assert capfd.readouterr().out.endswith("look here\n")
    Output(format="csv").answer(answer)
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("a\n1\n", "look here\n")


def test_errors_follow_the_result_and_the_first_decides_the_exit_status(capfd: Capture) -> None:
    errors = (DataQualityError("too late", hint="run it", market="us"), ProviderError("gone"))
    assert Output(format="csv").answer(Answer(pl.DataFrame({"a": [1]}), errors=errors)) == 30
    captured = capfd.readouterr()
    assert captured.out == "a\n1\n"
    assert captured.err == (
        "error DATA_QUALITY: too late\n  where: market=us\n  do: run it\nerror PROVIDER_ERROR: gone\n"
    )


def test_progress_is_drawn_on_a_terminal_only(capfd: Capture, monkeypatch: pytest.MonkeyPatch) -> None:
    with Output().progress("waiting") as show:
        assert show is None
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with Output(color=False).progress("waiting") as show:
        assert show is not None
        show("golden/us/bars", 3, 9)
    captured = capfd.readouterr()
    assert captured.out == ""
    assert "golden/us/bars" in captured.err
    assert "3/9" in captured.err
