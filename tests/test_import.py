"""What a user of `vprism import` can rely on: nothing lost, nothing doubled, nothing believed in the wrong unit."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import polars as pl
import pytest

from vprism_pipelines.errors import DataQualityError, InvalidConfiguration, InvalidInput, Malformed
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import VN
from vprism_pipelines.providers.files import Mapping
from vprism_pipelines.settings import Settings
from vprism_pipelines.warehouse.house import House
from vprism_pipelines.warehouse.importing import import_file, import_inbox, inbox

NOW = datetime(2025, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def house(tmp_path: Path) -> House:
    return House(Settings(data_dir=tmp_path / "data"), clock=lambda: NOW)


def bars(unit: float = 1000.0, shift: int = 0) -> pl.DataFrame:
    """Thirty symbols on the tick lattice over sixty HOSE sessions, prices in VND divided by `unit`."""
    days = calendar("XSTC").sessions(date(2025, 3, 3), date(2025, 6, 6))["session"].to_list()
    rows = [
        (f"V{number:02d}", day + timedelta(days=shift), (20_000 + 50 * ((number * 7 + index * 3) % 40)) / unit)
        for number in range(30)
        for index, day in enumerate(days)
    ]
    frame = pl.DataFrame(rows, schema=["symbol", "date", "close"], orient="row")
    return frame.with_columns(
        open=pl.col("close"), high=pl.col("close"), low=pl.col("close"), volume=pl.lit(1_500), value=pl.lit(None)
    )


def mapping(unit: int = 1000) -> Mapping:
    return Mapping.parse(
        {
            "provider": "broker",
            "market": "vn",
            "table": [
                {
                    "dataset": "bars",
                    "price_basis": "raw",
                    "columns": {
                        "symbol": "symbol",
                        "session": "date",
                        **{name: name for name in ("open", "high", "low", "close", "volume")},
                    },
                    "units": {"price": unit},
                }
            ],
        }
    )


def counts(house: House) -> tuple[int, int]:
    with house.warehouse.connect() as connection:
        ledger = connection.execute("SELECT count(*) FROM clean.bars_ledger").fetchone()
        fetches = connection.execute("SELECT count(*) FROM raw.fetches").fetchone()
    assert ledger is not None
    assert fetches is not None
    return ledger[0], fetches[0]


def test_every_row_is_accepted_quarantined_or_known_and_counted(house: House, tmp_path: Path) -> None:
    frame = bars().with_columns(low=pl.when(pl.col("symbol") == "V03").then(pl.col("close") * 2).otherwise("low"))
    frame.write_csv(tmp_path / "a.csv")
    done = import_file(house, tmp_path / "a.csv", mapping(), "run")
    tally = done.datasets["bars"]
    assert tally.rows == frame.height == tally.new + tally.quarantined + tally.unchanged
    assert tally.reasons == {"price_order": frame.filter(pl.col("symbol") == "V03").height}
    with house.warehouse.connect() as connection:
        row = connection.execute(
            "SELECT input, accepted, quarantined, unchanged FROM ops.runs WHERE step = 'import/a.csv/bars'"
        ).fetchone()
    assert row == (frame.height, tally.new, tally.quarantined, 0)


def test_the_same_file_twice_is_recognised_and_changes_nothing(house: House, tmp_path: Path) -> None:
    bars().write_csv(tmp_path / "a.csv")
    import_file(house, tmp_path / "a.csv", mapping(), "one")
    before = counts(house)
    (tmp_path / "copy.csv").write_bytes((tmp_path / "a.csv").read_bytes())
    assert import_file(house, tmp_path / "copy.csv", mapping(), "two").duplicate
    assert counts(house) == before


def test_thousand_vnd_declared_as_vnd_is_refused_and_said_so(house: House, tmp_path: Path) -> None:
    bars(unit=1000).write_csv(tmp_path / "a.csv")
    with pytest.raises(DataQualityError, match="factor of 1000") as refused:
        import_file(house, tmp_path / "a.csv", mapping(unit=1), "run")
    assert "unit" in refused.value.hint
    assert counts(house) == (0, 0)


def test_dates_shifted_by_a_day_are_refused(house: House, tmp_path: Path) -> None:
    bars(shift=1).write_csv(tmp_path / "a.csv")
    with pytest.raises(DataQualityError, match="moved by -1 day"):
        import_file(house, tmp_path / "a.csv", mapping(), "run")
    assert counts(house) == (0, 0)


def test_a_file_or_mapping_that_cannot_be_used_writes_nothing(house: House, tmp_path: Path) -> None:
    bars().write_parquet(tmp_path / "a.parquet")
    (tmp_path / "half.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-200])
    with pytest.raises(Malformed):
        import_file(house, tmp_path / "half.parquet", mapping(), "run")
    bars().rename({"close": "last"}).write_csv(tmp_path / "b.csv")
    with pytest.raises(InvalidConfiguration, match="close"):
        import_file(house, tmp_path / "b.csv", mapping(), "run")
    with pytest.raises(InvalidInput, match="future"):
        import_file(house, tmp_path / "a.parquet", mapping(), "run", known_at=NOW + timedelta(days=1))
    assert counts(house) == (0, 0)


def test_the_inbox_takes_files_in_and_sets_the_unusable_aside_with_the_reason(house: House) -> None:
    folder = inbox(house)
    folder.mkdir(parents=True)
    toml = "\n".join(
        [
            'provider = "broker"',
            'market = "vn"',
            "[[table]]",
            'dataset = "bars"',
            'price_basis = "raw"',
            "[table.columns]",
            'symbol = "symbol"',
            'session = "date"',
            *(f'{name} = "{name}"' for name in ("open", "high", "low", "close", "volume")),
            "[table.units]",
            "price = 1000",
        ]
    )
    for name, frame in (("good.csv", bars()), ("bad.csv", bars(unit=1_000_000))):
        frame.write_csv(folder / name)
        (folder / f"{name}.toml").write_text(toml)
    done, refused = import_inbox(house, VN, "run")
    assert [item.file for item in done] == ["good.csv"]
    assert list(refused) == ["bad.csv"]
    assert (folder / "done" / "good.csv").is_file()
    assert "DATA_QUALITY" in (folder / "refused" / "bad.csv.reason").read_text()
    assert import_inbox(house, VN, "again") == ([], {})
