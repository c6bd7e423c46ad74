"""The exchange_calendars classes behind our calendars: HOSE and HNX from committed data, XSHG and XHKG corrected.

exchange_calendars and the pandas under it take a second to import, so they are imported inside functions only, and
XSTC and HSTC are registered the moment somebody else imports exchange_calendars (`register_when_imported`).

Sources: `data/vn_closures.csv` (closed weekdays with their evidence), `data/vn_hours.csv` (session hours by date),
holidays.Vietnam and holidays.China for the years that nobody has announced yet.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from datetime import date, time, timedelta
from functools import cache
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

DATA = Path(__file__).parent / "data"

FIRST_DAY: Mapping[str, date] = MappingProxyType(
    {
        "XNYS": date(1990, 1, 1),
        "XSHG": date(1990, 12, 19),
        "XHKG": date(1990, 1, 1),
        "XSTC": date(2000, 7, 28),
        "HSTC": date(2005, 7, 14),
    }
)
"""Where each calendar's knowledge begins; for XSHG, XSTC and HSTC that is the opening of the exchange."""

LAST_DAY = date(2035, 12, 31)
"""Where all calendars end. Fixed rather than relative to today, so that the same code knows the same sessions."""

VIETNAMESE: Mapping[str, frozenset[str]] = MappingProxyType(
    {"XSTC": frozenset({"ALL", "HOSE"}), "HSTC": frozenset({"ALL", "HNX"})}
)
"""Scopes of `vn_closures.csv` that close each Vietnamese calendar; UPCOM follows HSTC."""

# Both exchanges began with sessions on Monday, Wednesday and Friday: last day without a Tuesday or Thursday session.
_THREE_DAY_WEEK_UNTIL: Mapping[str, date] = MappingProxyType({"XSTC": date(2002, 3, 4), "HSTC": date(2006, 5, 31)})

# 2021-06-01: HOSE stopped after the morning, the order flow threatened its system.
_EARLY_CLOSES: Mapping[str, Mapping[date, time]] = MappingProxyType(
    {"XSTC": {date(2021, 6, 1): time(11, 30)}, "HSTC": {}}
)

# Typhoon Saola and the black rainstorm, which exchange_calendars 4.13 takes for sessions.
_HONG_KONG_STORMS = (date(2023, 9, 1), date(2023, 9, 8))


@cache
def vietnamese_closures() -> pl.DataFrame:
    """The committed closures: date, name, evidence, scope, kind, in_holidays_0_109; one row a weekday and scope."""
    return pl.read_csv(DATA / "vn_closures.csv", try_parse_dates=True)


@cache
def vietnam_confirmed_until() -> date:
    """The last day whose opening or closing is observed or announced: the day before the first projected closure."""
    closures = vietnamese_closures()
    projected = closures.filter(pl.col("kind") == "projected")["date"]
    if projected.is_empty():
        return date(int(closures["date"].dt.year().max()), 12, 31)  # type: ignore[arg-type]
    return projected.min() - timedelta(days=1)  # type: ignore[return-value, operator]


def _vietnamese_closed_days(name: str) -> list[date]:
    """Weekdays without a session: the committed past, then what holidays.Vietnam expects."""
    import holidays

    confirmed = vietnam_confirmed_until()
    past = vietnamese_closures().filter(pl.col("scope").is_in(VIETNAMESE[name]), pl.col("date") <= confirmed)["date"]
    no_session_yet = pl.date_range(FIRST_DAY[name] + timedelta(days=1), _THREE_DAY_WEEK_UNTIL[name], eager=True)
    tuesdays_thursdays = no_session_yet.filter(no_session_yet.dt.weekday().is_in([2, 4]))
    expected = holidays.country_holidays("VN", years=range(confirmed.year, LAST_DAY.year + 1))
    return [*past, *tuesdays_thursdays, *(day for day in expected if day > confirmed)]


def _vietnamese_hours(name: str) -> dict[str, tuple[tuple[Any, time | None], ...]]:
    """Session times by date in the form exchange_calendars asks for: the first row is in force from the beginning."""
    import pandas as pd

    hours = pl.read_csv(DATA / "vn_hours.csv", try_parse_dates=True).filter(pl.col("calendar") == name)
    starts = [None, *(pd.Timestamp(day) for day in hours["valid_from"][1:])]
    return {column: tuple(zip(starts, hours[column], strict=True)) for column in hours.columns[2:6]}


@cache
def _types() -> Mapping[str, type[Any]]:
    import holidays
    import pandas as pd
    from exchange_calendars import ExchangeCalendar
    from exchange_calendars.exchange_calendar_xhkg import XHKGExchangeCalendar
    from exchange_calendars.exchange_calendar_xnys import XNYSExchangeCalendar
    from exchange_calendars.exchange_calendar_xshg import XSHGExchangeCalendar

    class Vietnamese(ExchangeCalendar):  # type: ignore[misc]
        """Monday to Friday except the committed and projected closures."""

        tz = ZoneInfo("Asia/Ho_Chi_Minh")

        @classmethod
        def bound_min(cls) -> Any:
            return pd.Timestamp(FIRST_DAY[cls.name])

        @classmethod
        def bound_max(cls) -> Any:
            return pd.Timestamp(LAST_DAY)

        # Without these two a calendar asked for without dates would begin twenty years ago.
        default_start = bound_min
        default_end = bound_max

        @property
        def adhoc_holidays(self) -> list[Any]:
            return [pd.Timestamp(day) for day in _vietnamese_closed_days(self.name)]

        @property
        def special_closes_adhoc(self) -> list[tuple[time, Any]]:
            early = _EARLY_CLOSES[self.name]
            return [(close, pd.DatetimeIndex([day])) for day, close in early.items()]

    def vietnamese(name: str) -> type[Any]:
        hours = _vietnamese_hours(name)
        return type(
            name,
            (Vietnamese,),
            {
                "__module__": __name__,
                "name": name,
                "open_times": hours["open"],
                "break_start_times": hours["break_start"],
                "break_end_times": hours["break_end"],
                "close_times": hours["close"],
            },
        )

    class HongKong(XHKGExchangeCalendar):  # type: ignore[misc]
        @property
        def adhoc_holidays(self) -> list[Any]:
            return [*super().adhoc_holidays, *map(pd.Timestamp, _HONG_KONG_STORMS)]

    class Shanghai(XSHGExchangeCalendar):  # type: ignore[misc]
        """Past its last recorded year: every weekday that is not a public holiday."""

        recorded_until: date = XSHGExchangeCalendar.bound_max().date()

        @classmethod
        def bound_max(cls) -> Any:
            return pd.Timestamp(LAST_DAY)

        @property
        def adhoc_holidays(self) -> list[Any]:
            years = range(self.recorded_until.year + 1, LAST_DAY.year + 1)
            expected = holidays.country_holidays("CN", years=years)
            return [*super().adhoc_holidays, *map(pd.Timestamp, expected)]

    return MappingProxyType(
        {
            "XNYS": XNYSExchangeCalendar,
            "XSHG": Shanghai,
            "XHKG": HongKong,
            "XSTC": vietnamese("XSTC"),
            "HSTC": vietnamese("HSTC"),
        }
    )


def schedule(name: str) -> tuple[ZoneInfo, date, pl.DataFrame]:
    """Everything known about one calendar, free of pandas.

    Returns:
        The exchange's zone; the last confirmed day; a frame of session Date, open and close Datetime("us", "UTC").
    """
    import exchange_calendars  # noqa: F401  (first, so that registering cannot re-enter the cached `_types`)

    cls = _types()[name]
    built = cls(start=FIRST_DAY[name].isoformat(), end=LAST_DAY.isoformat())
    confirmed = LAST_DAY
    if name in VIETNAMESE:
        confirmed = vietnam_confirmed_until()
    elif name == "XSHG":
        confirmed = min(cls.recorded_until, LAST_DAY)
    instant = pl.Datetime("us", "UTC")
    frame = pl.DataFrame(
        {
            "session": pl.Series(built.sessions.to_numpy().astype("datetime64[D]")),
            "open": pl.Series(built.opens_nanos // 1000).cast(instant),
            "close": pl.Series(built.closes_nanos // 1000).cast(instant),
        }
    )
    return built.tz, confirmed, frame


def register() -> None:
    """Make `exchange_calendars.get_calendar("XSTC")` and `("HSTC")` work. Imports exchange_calendars.

    Importing `vprism_pipelines.market.calendars` already arranges this; call it only where import hooks are off.
    """
    from exchange_calendars import register_calendar_type

    for name in VIETNAMESE:
        register_calendar_type(name, _types()[name], force=True)


def register_when_imported() -> None:
    """Register XSTC and HSTC now if exchange_calendars is loaded, else right after somebody loads it."""
    if "exchange_calendars" in sys.modules:
        register()
    elif not any(isinstance(finder, _RegisterAfterImport) for finder in sys.meta_path):
        sys.meta_path.insert(0, _RegisterAfterImport())


class _RegisterAfterImport(MetaPathFinder):
    """Lets the other finders find exchange_calendars and has `register` run after its body."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != "exchange_calendars":
            return None
        others = (finder for finder in sys.meta_path if finder is not self)
        found = (finder.find_spec(fullname, path, target) for finder in others)
        spec = next((spec for spec in found if spec is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ThenRegister(spec.loader)
        return spec


class _ThenRegister(Loader):
    def __init__(self, inner: Loader) -> None:
        self._inner = inner

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._inner.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._inner.exec_module(module)
        register()

    def __getattr__(self, name: str) -> Any:  # get_source, get_data, …: what tools ask of the real loader
        return getattr(self._inner, name)
