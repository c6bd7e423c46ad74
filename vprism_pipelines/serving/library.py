"""The Python library: the published warehouse as polars frames.

>>> import vprism_pipelines.serving.library as vp
>>> data = vp.connect()
>>> data.bars("AAPL", "2005-02-25", "2005-02-28", basis="raw")["close"].to_list()
[88.99, 44.86]
>>> data.bars("AAPL", "2005-02-25", "2005-02-28", basis="split")["close"].to_list()
[44.495, 44.86]

Reading blocks nobody and never sees half a run; an open library moves on to the next snapshot by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Self, get_args

import duckdb
import polars as pl

from vprism_pipelines.errors import InvalidConfiguration, InvalidInput, InvalidQuery, InvalidRange
from vprism_pipelines.market import adjustment
from vprism_pipelines.market.calendars import calendar
from vprism_pipelines.market.spec import market as market_named
from vprism_pipelines.market.spec import market_of
from vprism_pipelines.market.symbols import resolve
from vprism_pipelines.providers.registry import utc_now
from vprism_pipelines.quality.thresholds import DEFAULTS, Thresholds, thresholds
from vprism_pipelines.serving import history as past
from vprism_pipelines.serving.asking import instant, one_day, period, the_one
from vprism_pipelines.settings import settings
from vprism_pipelines.warehouse.as_of import believed
from vprism_pipelines.warehouse.lake import Lake
from vprism_pipelines.warehouse.reader import Identity, Reader

if TYPE_CHECKING:
    from vprism_pipelines.serving.explain import Cell
    from vprism_pipelines.serving.explanation import Explanation

__all__ = ["Basis", "Library", "connect"]

Basis = Literal["raw", "split", "qfq", "hfq", "total_return"]
"""Price basis: as traded; splits only; all actions, latest price as traded; the same, first price as traded; and with
distributions reinvested at the ex-date close."""

_MODES: dict[Basis, adjustment.Mode] = {
    "raw": "none",
    "split": "split",
    "qfq": "qfq",
    "hfq": "hfq",
    "total_return": "total_return",
}
_BARS = (
    "symbol", "session", "open", "high", "low", "close", "volume", "value", "currency", "factor", "share_factor",
    "flags",
)  # fmt: skip
# `golden.adjusted_bars` on the raw basis: prices as traded need no factors, and looking for them takes half the time.
_AS_TRADED = """(SELECT * REPLACE (volume / 1.0 AS volume), 'raw' AS basis, 1.0::DOUBLE AS factor,
                        1.0::DOUBLE AS share_factor FROM golden.bars)"""


def connect(data_dir: str | Path | None = None, database: str | Path | None = None) -> Library:
    """The published warehouse of an installation.

    Args:
        data_dir: Its data directory; None: the configured one (`VPRISM_DATA_DIR`).
        database: The published file; None: the configured one, or `vprism.duckdb` in an explicit `data_dir`.

    The file is opened by the first query, which raises NotPublished where there is none.
    """
    given = {"data_dir": data_dir, "duckdb_database": database}
    named = {name: Path(path) for name, path in given.items() if path is not None}
    if data_dir is not None:
        named.setdefault("duckdb_database", Path(data_dir) / "vprism.duckdb")
    configured = settings().model_copy(update=named)
    return Library(Reader(configured), lake=Lake(configured.lake_dir), checks=thresholds(configured.checks))


class Library:
    """Reading access to published data. Safe to share between threads; close it or use it in a `with` statement.

    Args:
        reader: The published warehouse.
        clock: Where `now` comes from, to tell future dates.
        lake: The archive it was made from, for `explain`; None: it cannot explain.
        checks: The installation's thresholds, by which the past is judged again.
    """

    def __init__(
        self,
        reader: Reader,
        clock: Callable[[], datetime] = utc_now,
        lake: Lake | None = None,
        checks: Thresholds = DEFAULTS,
    ) -> None:
        self.checks = checks
        self._reader = reader
        self._clock = clock
        self._lake = lake
        self._known: tuple[Identity, frozenset[str]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the snapshot; the next query opens the newest one."""
        self._reader.close()

    def sql(self, query: str, parameters: Sequence[Any] | dict[str, Any] | None = None) -> pl.DataFrame:
        """Run one SQL statement (DuckDB's dialect) and return its rows.

        Raises:
            NotPublished: Nothing has been published yet.
            InvalidQuery: The statement is wrong, tries to write, or its result has a type that no frame can hold.

        Example:
            >>> connect().sql("SELECT count(DISTINCT symbol) AS symbols FROM golden.bars")["symbols"].item()
            5
        """
        if _is_blank(query):
            raise InvalidQuery("there is no statement", hint="try SHOW ALL TABLES")
        try:
            return self._reader.query(query, parameters)
        except pl.exceptions.PolarsError as error:
            raise InvalidQuery(
                f"the result cannot be made a frame: {str(error).splitlines()[0]}",
                hint="give every column a name of its own, and cast unusual types, as in CAST(x AS VARCHAR)",
            ) from error

    def symbols(self) -> pl.DataFrame:
        """What there is: symbol, bars, first and last session, currency, providers; one row a symbol.

        Example:
            >>> connect().symbols()["symbol"].to_list()[:2]
            ['US:STOCK:AAPL', 'US:STOCK:FB']
        """
        return self.sql(
            """SELECT symbol, count(*) AS bars, min(session) AS first, max(session) AS last,
                      arg_max(currency, session) AS currency, list_sort(list(DISTINCT chosen_provider)) AS providers
               FROM golden.bars GROUP BY symbol ORDER BY symbol"""
        )

    def bars(
        self,
        symbols: str | Sequence[str],
        start: date | str | None = None,
        end: date | str | None = None,
        basis: Basis = "qfq",
        as_of: datetime | str | None = None,
    ) -> pl.DataFrame:
        """Daily bars on one price basis.

        Args:
            symbols: One or several, canonical (`US:STOCK:AAPL`) or in a spelling that only one known symbol has.
            start: First session; None: from the beginning.
            end: Last session; None: to the newest.
            basis: See `Basis`.
            as_of: What was believed at this instant (aware, or ISO text with its offset) rather than what is now,
                adjustment factors included.

        Returns:
            symbol, session, open, high, low, close (currency units per share), volume (shares), value, currency,
            factor (price = raw price · factor), share_factor (volume = raw volume / share_factor), flags; ordered by
            symbol and session.

        Raises:
            UnknownSymbol: A symbol is not in the warehouse; the hint names the nearest ones.
            InvalidRange: A date cannot be read, the range is reversed, or it lies in the future.
            InvalidInput: There is no such basis.

        Example:
            >>> adjusted = connect().bars(["AAPL", "MSFT"], end="2005-12-30")
            >>> adjusted.select("symbol", "close").group_by("symbol", maintain_order=True).last()["symbol"].to_list()
            ['US:STOCK:AAPL', 'US:STOCK:MSFT']
        """
        if basis not in get_args(Basis):
            raise InvalidInput(f"there is no price basis {basis!r}", hint=f"use one of: {', '.join(get_args(Basis))}")
        chosen = self.canonical(symbols)
        today = max((market_of(symbol).today(self._clock()) for symbol in chosen), default=self._clock().date())
        first, last = period(start, end, today=today)
        first, last = first or date.min, last or date.max
        if as_of is not None:
            believed = self._believed(chosen, instant(as_of), basis)
            return believed.filter(pl.col("session").is_between(first, last))
        asked: dict[str, object]
        if len(chosen) == 1:  # an equality is tested several times faster than a range
            among, asked = "symbol = $symbol", {"symbol": chosen[0]}
        else:  # the range first, because it reaches the table below the view
            among = "symbol BETWEEN $low AND $high AND list_contains($symbols, symbol)"
            asked = {"symbols": chosen, "low": min(chosen, default=""), "high": max(chosen, default="")}
        return self.sql(
            f"""SELECT {", ".join(_BARS)} FROM {_AS_TRADED if basis == "raw" else "golden.adjusted_bars"}
                WHERE {among} AND session BETWEEN $first AND $last AND basis = $basis
                ORDER BY symbol, session""",
            {**asked, "first": first, "last": last, "basis": basis},
        )

    def sessions(
        self, market_code: str = "us", start: date | str | None = None, end: date | str | None = None
    ) -> pl.DataFrame:
        """Trading days of a market's exchanges: market, exchange, session, session_no, open, close (UTC), projected.

        Raises:
            UnknownMarket: There is no such market.
            InvalidRange: A date cannot be read, or the range is reversed. Future sessions may be asked for.

        Example:
            >>> days = connect().sessions("us", "2012-10-26", "2012-10-31")  # Hurricane Sandy
            >>> days.filter(pl.col("exchange") == "NYSE")["session"].cast(pl.String).to_list()
            ['2012-10-26', '2012-10-31']
        """
        first, last = period(start, end)
        return self.sql(
            """SELECT * FROM golden.sessions WHERE market = ? AND session BETWEEN ? AND ?
               ORDER BY exchange, session""",
            [market_named(market_code).code, first or date.min, last or date.max],
        )

    def history(self, symbol: str, session: date | str, field: str | None = None) -> pl.DataFrame:
        """Everything every provider ever said about one bar: all versions, with when each was believed and why.

        Args:
            symbol: Canonical, or in a spelling that only one known symbol has.
            session: The trading day.
            field: Only this one of open, high, low, close, volume, value, adj_close; None: all of them.

        Returns:
            provider, known_from, known_to (null: still believed), change_class, the values, bp (change of the field,
            else of the close, from the version before, in basis points), golden (whether golden has this version),
            price_basis, provisional, and where it came from: fetch_id, payload_row, status (HTTP), sha256,
            parser_version, lake_path; ordered by provider and known_from. No rows: nobody said anything.

        Raises:
            UnknownSymbol: The symbol is not in the warehouse.
            InvalidRange: `session` cannot be read, or is no trading day of the market.
            InvalidInput: There is no such field.

        Example:
            >>> connect().history("AAPL", "2005-02-28").select("provider", "close", "change_class").rows()
            [('sample', 44.86, 'new')]
        """
        (chosen,), day = self.canonical(symbol), one_day(session, "session")
        wanted = None if field is None else past.field_of(field)
        spec = market_of(chosen)
        days = calendar(spec.calendar)
        if not days.is_session(day):
            raise InvalidRange(
                f"{day} is not a session of {days.name}",
                hint=f"the nearest ones are {days.previous(day)} and {days.next(day)}",
                symbol=chosen,
            )
        return past.versions(self.sql, chosen, day, wanted)

    def diff(
        self,
        before: datetime | date | str | int,
        after: datetime | date | str | int,
        market: str | None = None,
        symbols: str | Sequence[str] = (),
    ) -> past.Diff:
        """What changed between two instants: cells, returns, and a summary.

        Args:
            before: An instant with its offset, a date (the end of that day, UTC), or the number of a snapshot.
            after: A later one.
            market: Only this market.
            symbols: Only these; none: all.

        Raises:
            InvalidRange: An instant cannot be read, or they are in the wrong order.
            UnknownMarket: There is no such market.
            UnknownSymbol: A symbol is not in the warehouse.

        Example:
            >>> connect().diff("2005-01-01", "2005-12-31").cells.height
            0
        """
        when = past.span(self.sql, before, after)
        prefix = market_named(market).prefix if market else ""
        chosen = self.canonical(symbols) if symbols else []
        return past.diff(self.sql, self._believed, when, prefix=prefix, symbols=chosen)

    def explain(
        self,
        symbol: str,
        session: date | str,
        field: str,
        basis: Basis = "raw",
        as_of: datetime | str | None = None,
    ) -> Explanation:
        """Where one published number comes from, down to the bytes; or why there is none.

        Args:
            symbol: Canonical, or in a spelling that only one known symbol has.
            session: The trading day.
            field: open, high, low, close, volume, value, or an indicator of `analytics.daily`.
            basis: Price basis of the number; an indicator has its own.
            as_of: What was believed at this instant, instead of what is published.

        Raises:
            UnknownSymbol, InvalidInput, InvalidRange: There is no such symbol, field, basis or date.
            CorruptLake: The archived answer is missing or damaged.

        Example:
            >>> connect().explain("AAPL", "2005-02-28", "close").places[0].column
            'Close'
        """
        from vprism_pipelines.serving.explain import Cell

        return self.explain_many([Cell(symbol, session, field, basis, as_of)])[0]

    def explain_many(self, cells: Sequence[Cell]) -> list[Explanation]:
        """`explain` for many cells; answers of the archive are read once for all of them.

        Raises:
            InvalidConfiguration: This library was made without its archive.
        """
        from vprism_pipelines.serving.explain import Explainer

        if self._lake is None:
            raise InvalidConfiguration(
                "this library knows no archive", hint="open it with connect(), or give Library the installation's lake"
            )
        return Explainer(self, self._lake, self._clock).explain(cells)

    def canonical(self, symbols: str | Sequence[str]) -> list[str]:
        """The symbols in the warehouse that some spellings mean.

        Raises:
            UnknownSymbol: One means none or several of them; the hint names the nearest ones.

        Example:
            >>> connect().canonical(["aapl", "MSFT.US"])
            ['US:STOCK:AAPL', 'US:STOCK:MSFT']
        """
        held = self._held()
        markets = {known.partition(":")[0] for known in held}
        codes: dict[str, list[str]] = {}
        for known in held:
            codes.setdefault(known.rpartition(":")[2], []).append(known)
        return [
            the_one(raw, codes, held & {resolve(raw, market=market).symbol for market in (None, *markets)})
            for raw in ([symbols] if isinstance(symbols, str) else symbols)
        ]

    def _held(self) -> frozenset[str]:
        """The symbols of the published snapshot, looked up once for each."""
        newest = self._reader.newest
        if self._known is None or self._known[0] != newest:
            self._known = newest, frozenset(self.sql("SELECT DISTINCT symbol FROM golden.bars")["symbol"])
        return self._known[1]

    def _believed(self, symbols: list[str], as_of: datetime, basis: Basis) -> pl.DataFrame:
        """Bars on a basis as they would have been built at an instant."""
        specs = {market_of(symbol).code: market_of(symbol) for symbol in symbols}
        known = [
            believed(self.sql, spec, [symbol for symbol in symbols if market_of(symbol) is spec], as_of, self.checks)
            for spec in specs.values()
        ]
        frames = [adjustment.adjusted(each.bars, each.steps, _MODES[basis]) for each in known]
        # The view states how shares scale, the pure function what to multiply volume with.
        scaled = pl.concat(frames).with_columns(share_factor=1 / pl.col("share_factor"))
        return scaled.select(_BARS).sort("symbol", "session")


def _is_blank(query: str) -> bool:
    try:
        return not duckdb.extract_statements(query)
    except duckdb.Error:
        return False  # something is there, and the reader says what is wrong with it
