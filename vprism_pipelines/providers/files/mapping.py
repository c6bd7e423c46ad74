"""A mapping: how the columns of somebody's file become our raw rows, as data a person can write in TOML.

Mapping.load("mybroker.toml")   validated; what is wrong is named with its key, what exists, and the nearest match
shipped()                       the mappings that come with the package, by name
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterator
from collections.abc import Mapping as Map
from datetime import datetime, time
from pathlib import Path
from typing import Annotated, Any, Final, Literal
from zoneinfo import ZoneInfo

from pydantic import Field, ValidationError, field_validator, model_validator

from vprism_pipelines.errors import InvalidConfiguration, VprismError
from vprism_pipelines.market.actions import EVENT_TYPES
from vprism_pipelines.market.spec import MarketSpec, market
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import RAW_FRAMES, PriceBasis
from vprism_pipelines.providers.files.source import Source, Strict, nearest, one_of, regex

FileDataset = Literal["bars", "actions", "instruments"]
Values = tuple[str | float, ...]
Unit = Annotated[float, Field(gt=0, allow_inf_nan=False)]

# Filled in by the reader or by other keys of a table, never by a column of the file.
_OWN: Final = {"fetch_id", "row", "raw_symbol", "price_basis", "price_unit", "volume_unit", "value_unit"}
DATE_COLUMN: Final[Map[FileDataset, str | None]] = {"bars": "session", "actions": "ex_date", "instruments": None}
UNKNOWN_EVENT: Final = "unknown"


class UnitRule(Strict):
    """Units of some symbols: `symbols` is a regular expression over the file's spelling, matched whole."""

    symbols: str
    price: Unit | None = None
    volume: Unit | None = None
    value: Unit | None = None

    @field_validator("symbols")
    @classmethod
    def _expression(cls, value: str) -> str | None:
        return regex(value, 0)


class Units(Strict):
    """How many of our units one unit of the file is: 1000 for thousand VND, 100 for Chinese lots."""

    price: Unit = 1.0
    volume: Unit = 1.0
    value: Unit = 1.0
    exceptions: tuple[UnitRule, ...] = Field(default=(), alias="except")


class Event(Strict):
    """One kind of corporate action and the rows that declare it.

    A row belongs to the first event whose `when` (column: values), `matches` and `unless` (column: expression) hold and
    whose `columns` are all there; a row that belongs to none is passed on as `unknown`, to be quarantined with it.
    """

    event_type: str
    when: dict[str, Values] = Field(default_factory=dict)
    matches: dict[str, str] = Field(default_factory=dict)
    unless: dict[str, str] = Field(default_factory=dict)
    columns: dict[str, Source]

    @field_validator("matches", "unless")
    @classmethod
    def _expressions(cls, value: dict[str, str]) -> dict[str, str]:
        for pattern in value.values():
            regex(pattern, 0)
        return value

    @model_validator(mode="after")
    def _known(self) -> Event:
        one_of("event_type", self.event_type, EVENT_TYPES)
        for name in self.columns:
            one_of("column of an action", name, set(RAW_FRAMES["actions"]) - _OWN - {"event_type"})
        return self


class FileTable(Strict):
    """One dataset made from the rows of a file.

    Attributes:
        columns: Our columns (`symbol`, `session`, `open`, …) and where each comes from. `asset` of bars and actions
            says what kind of instrument the spelling means.
        price_basis: raw, split_adjusted or adjusted_by_source.
        close_only: The file has closes and nothing else of the day: open, high and low are given the close.
        later_splits: Column with split ratios on their ex-dates (0 or 1: none). Prices are then known to be raw prices
            divided by all later splits of the file, and can be turned back.
        keep, drop: Column and values: rows that are, or are not, of this table. The others are counted in the notes.
        event: For actions: what the rows declare.
    """

    dataset: FileDataset
    columns: dict[str, Source]
    price_basis: PriceBasis = "raw"
    close_only: bool = False
    later_splits: str | None = None
    units: Units = Units()
    keep: dict[str, Values] = Field(default_factory=dict)
    drop: dict[str, Values] = Field(default_factory=dict)
    event: tuple[Event, ...] = ()

    @model_validator(mode="after")
    def _complete(self) -> FileTable:
        allowed = {"symbol"} | set(RAW_FRAMES[self.dataset]) - _OWN
        if self.dataset != "instruments":
            allowed |= {"asset"}
        for name in self.columns:
            one_of(f"column of {self.dataset}", name, allowed)
        needed = ["symbol", DATE_COLUMN[self.dataset]]
        if self.dataset == "bars":
            needed += ["close"] if self.close_only else ["open", "high", "low", "close"]
        if self.dataset == "actions" and not self.event:
            needed.append("event_type")
        missing = [name for name in needed if name and name not in self.columns]
        if missing:
            raise ValueError(f"{self.dataset} need the columns {', '.join(missing)}")
        if self.event and ("event_type" in self.columns or self.dataset != "actions"):
            raise ValueError("event rules are for actions, and take the place of an event_type column")
        if self.close_only and (self.dataset != "bars" or {"open", "high", "low"} & set(self.columns)):
            raise ValueError("close_only is for bars without open, high and low")
        if self.later_splits is not None and "basis_factor" in self.columns:
            raise ValueError("later_splits gives the basis_factor; name one of them")
        return self

    def sources(self) -> Iterator[tuple[str, Source]]:
        """Every source of the table with the key it stands under."""
        yield from self.columns.items()
        for event in self.event:
            yield from ((f"event {event.event_type}.{name}", source) for name, source in event.columns.items())

    def plain_columns(self) -> set[str]:
        """Columns used as they are: by filters and conditions."""
        names = {*self.keep, *self.drop}
        for event in self.event:
            names |= {*event.when, *event.matches, *event.unless}
        return names | ({self.later_splits} if self.later_splits else set())


class FileFormat(Strict):
    """How to read the bytes. All but `format` and `ignore_case` speak of CSV."""

    format: Literal["auto", "csv", "parquet"] = "auto"
    separator: str = Field(default=",", min_length=1, max_length=1)
    quote: str = Field(default='"', max_length=1)
    encoding: str = "utf-8"
    decimal: Literal[".", ","] = "."
    thousands: Literal["", ",", ".", " ", "'", "_"] = ""
    header: bool = True
    names: tuple[str, ...] = ()
    skip_lines: int = Field(default=0, ge=0)
    null_values: tuple[str, ...] = ("", "null", "NULL", "N/A", "n/a", "nan", "NaN", "None", "-")
    ignore_case: bool = False

    @field_validator("encoding")
    @classmethod
    def _codec(cls, value: str) -> str:
        try:
            " ".encode(value)
        except LookupError:
            raise ValueError(f"there is no text encoding {value!r}; try utf-8, utf-8-sig, windows-1258") from None
        return value

    @model_validator(mode="after")
    def _consistent(self) -> FileFormat:
        if not self.header and not self.names:
            raise ValueError("a file without header needs names for its columns")
        if self.decimal == self.thousands:
            raise ValueError("decimal and thousands cannot be the same sign")
        if not self.separator.isascii() or self.separator in '\n\r"':
            raise ValueError("the separator is one ASCII character, no quote and no line break")
        return self


class Mapping(Strict):
    """What a file means.

    Attributes:
        provider: Name under which the rows are remembered and reconciled; a name of its own per source.
        market: Market code.
        time_zone: Zone of times without one; dates are taken in the market's zone. None: the date as written.
    """

    provider: str = Field(pattern=r"^[a-z][a-z0-9_]{0,31}$")
    market: str
    title: str = ""
    licence: str = ""
    time_zone: str | None = None
    file: FileFormat = FileFormat()
    table: tuple[FileTable, ...]

    @field_validator("provider")
    @classmethod
    def _own_name(cls, value: str) -> str:
        entry = registry.PROVIDERS.get(value)
        if entry is not None and not entry.where.startswith("files:"):
            raise ValueError(f"{value!r} is a provider of its own; give the file another name, such as {value}_csv")
        return value

    @field_validator("market")
    @classmethod
    def _market(cls, value: str) -> str:
        try:
            return market(value).code
        except VprismError as error:
            raise ValueError(f"{error.message}; {error.hint}") from None

    @field_validator("time_zone")
    @classmethod
    def _zone(cls, value: str | None) -> str | None:
        try:
            return ZoneInfo(value).key if value is not None else None
        except (KeyError, ValueError, OSError):
            raise ValueError(f"there is no time zone {value!r}; write it like Asia/Ho_Chi_Minh") from None

    @field_validator("table")
    @classmethod
    def _some_table(cls, value: tuple[FileTable, ...]) -> tuple[FileTable, ...]:
        if not value:
            raise ValueError("a mapping needs at least one [[table]]")
        return value

    @classmethod
    def load(cls, path: str | Path, **changes: str) -> Mapping:
        """Read a mapping.

        Args:
            path: TOML file, or the name of a shipped mapping.
            changes: `market` or `provider` to use instead of the file's.

        Raises:
            InvalidConfiguration: The file cannot be read, or says something no mapping can say.
        """
        place = shipped().get(str(path), Path(path))
        try:
            content = tomllib.loads(place.read_text(encoding="utf-8"))
        except OSError as error:
            known = ", ".join(shipped())
            raise InvalidConfiguration(
                f"the mapping {str(path)!r} cannot be read: {error.strerror or error}",
                hint=f"name a TOML file or a shipped mapping: {known}",
                path=place,
            ) from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InvalidConfiguration(
                f"{place.name} is not TOML: {error}", hint="TOML is UTF-8 text: key = value", path=place
            ) from None
        return cls.parse({**content, **changes}, place.name)

    @classmethod
    def parse(cls, content: Map[str, Any], name: str = "the mapping") -> Mapping:
        """Validate a mapping given as data; `name` is what errors call it.

        Raises:
            InvalidConfiguration: It says something no mapping can say.
        """
        try:
            return cls.model_validate(dict(content))
        except ValidationError as error:
            problems = [_problem(item) for item in error.errors(include_url=False)]
            raise InvalidConfiguration(
                f"{name}: {'; '.join(problems[:5])}",
                hint="docs/import.md lists every key",
                mapping=name,
                problems=len(problems),
            ) from None

    @property
    def spec(self) -> MarketSpec:
        """The market the rows belong to."""
        return market(self.market)

    @property
    def datasets(self) -> tuple[FileDataset, ...]:
        """Datasets the file feeds, each once."""
        return tuple(dict.fromkeys(table.dataset for table in self.table))

    @property
    def reads_file_name(self) -> bool:
        """Whether equal bytes under another name mean something else."""
        return any(source.of_file_name for table in self.table for _, source in table.sources())

    def to_json(self) -> str:
        """Canonical text: equal mappings give equal texts."""
        return json.dumps(self.model_dump(mode="json", by_alias=True, exclude_defaults=True), sort_keys=True)


def shipped() -> dict[str, Path]:
    """The mappings that come with the package: name -> TOML file."""
    folder = Path(__file__).resolve().parent.parent / "mappings"
    return {path.stem: path for path in sorted(folder.glob("*.toml"))}


_MODELS: Final = (Mapping, FileFormat, FileTable, Units, UnitRule, Event, Source)
_KEYS: Final = {field.alias or key for model in _MODELS for key, field in model.model_fields.items()}


def _problem(error: Any) -> str:
    """One validation error as a sentence: the key, what is wrong, and the nearest key that exists."""
    where = ".".join(str(part) for part in error["loc"])
    key = str(error["loc"][-1]) if error["loc"] else ""
    if error["type"] == "extra_forbidden":
        return f"unknown key {where!r}{nearest(key, _KEYS - {key})}"
    text = str(error["msg"]).removeprefix("Value error, ")
    given = error.get("input")
    shown = f" (it is {given!r})" if isinstance(given, str | int | float | datetime | time) else ""
    return f"{where}: {text}{shown}" if where else text
