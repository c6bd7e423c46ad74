"""Failover: what one provider owes us is asked of the next; what nobody delivers is said to be stale.

The order is the installation's: `VPRISM_PROVIDERS`, then `VPRISM_STANDBY`. What is asked in the same run anyway is left
to that; the others are weighed, and asked one after the other for what is still missing.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from typing import TYPE_CHECKING

import polars as pl

from vprism_pipelines.errors import NotFound, ProviderError, UnknownProvider, UnknownSymbol
from vprism_pipelines.market.symbols import to_provider
from vprism_pipelines.providers import registry
from vprism_pipelines.providers.base import Capabilities, Dataset, Request
from vprism_pipelines.providers.breaker import CircuitBreaker, CircuitState
from vprism_pipelines.providers.state import State
from vprism_pipelines.tables import FAILOVERS, PROVIDER_HEALTH
from vprism_pipelines.warehouse import pulls
from vprism_pipelines.warehouse.acquire import Acquired, attempt, universe
from vprism_pipelines.warehouse.building import frame, insert
from vprism_pipelines.warehouse.measurement import Measurement
from vprism_pipelines.warehouse.planner import Goal, plan

if TYPE_CHECKING:
    import duckdb

    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.quality.thresholds import Thresholds
    from vprism_pipelines.warehouse.house import House

__all__ = ["STORED", "Candidate", "Delivery", "keep", "pull", "staleness"]

STORED = "stored"
"""Stands for a provider where nobody delivered: the data at hand."""

RECENT_DAYS = 30
_FOUND = ("symbol", "reason", "detail", "fallback", "outcome")
_FAILOVERS = pl.DataFrame(schema={name: FAILOVERS.polars_schema[name] for name in _FOUND})


@dataclass(frozen=True, slots=True)
class Candidate:
    """Who could be asked instead, and how promising that is.

    Attributes:
        provider: Registry name.
        symbols: Those it can answer for.
        success: Share of its pulls of the last 30 days that did not fail; 1 when there were none.
        reach: Share of the symbols wanted that it knows and its day has room for.
        hours: Until they would be there.
        refusal: Why it is not asked; empty: it may be.
    """

    provider: str
    symbols: tuple[str, ...] = ()
    success: float = 1.0
    reach: float = 0.0
    hours: float = 0.0
    refusal: str = ""

    @property
    def score(self) -> float:
        """Success, reach and speed in one, to a tenth: smaller differences do not overrule the configured order."""
        return round(self.success * self.reach / (1 + self.hours), 1)


@dataclass(frozen=True, slots=True)
class Delivery:
    """What became of asking a provider, and others instead of it.

    Attributes:
        provider: Who was asked first.
        dataset: What for.
        first: What that brought.
        others: What those brought who were asked instead.
        failovers: symbol, reason, detail, fallback, outcome: what is kept in `quality.failovers`.
        considered: Who could have been asked, in the order of preference.
    """

    provider: str
    dataset: Dataset
    first: Acquired
    others: Mapping[str, Acquired] = field(default_factory=dict)
    failovers: pl.DataFrame = field(default_factory=_FAILOVERS.clone)
    considered: tuple[Candidate, ...] = ()

    @property
    def stale(self) -> pl.DataFrame:
        """Symbols for which the data at hand stands, and why."""
        return self.failovers.filter(pl.col("fallback") == STORED)

    @property
    def refusal(self) -> ProviderError | None:
        """The first provider's error, when there is nothing at all: nobody else delivered, or still may."""
        helped = self.failovers["outcome"].is_in(["delivered", "pending"]).any()
        return None if helped else self.first.refusal


def pull(
    house: House,
    spec: MarketSpec,
    provider: str,
    window: tuple[date, date],
    run_id: str,
    *,
    dataset: Dataset,
    beside: Sequence[str] = (),
) -> Delivery:
    """Bring the archive up to the sessions in `window`: by `provider`, and by others where it fails.

    That a provider does not know a symbol (`NOT_FOUND`) is an answer; every other failure is a debt.

    Args:
        house: The installation.
        spec: The market.
        provider: Whom to ask first.
        window: First and last session date.
        run_id: Recorded with every pull.
        dataset: What to ask for.
        beside: Providers that the same run asks for the same dataset, before or after this one.
    """
    first = attempt(house, spec, provider, window, run_id, dataset=dataset)
    missed = first.missed.filter(pl.col("error_code") != NotFound.code)
    if missed.is_empty():
        return Delivery(provider, dataset, first)
    with house.warehouse.connect() as connection:
        everybody = universe(house, connection, spec, house.parser(provider))
    owed = _by_symbol(provider, everybody, missed)
    debt = _Debt(owed["symbol"])
    wanted = _Wanted(house, spec, provider, dataset, window)
    for name in beside:
        _leave_to(name, wanted, debt, run_id)
    considered = _candidates(wanted, debt.left, beside) if debt.left else []
    others: dict[str, Acquired] = {}
    for each in considered:
        asked = [symbol for symbol in each.symbols if symbol in debt.left]
        if asked and not each.refusal:
            answer = attempt(house, spec, each.provider, window, run_id, dataset=dataset, symbols=asked)
            failed = _by_symbol(each.provider, asked, answer.missed)["symbol"].to_list()
            debt.settle(each.provider, [symbol for symbol in asked if symbol not in failed], "delivered")
            debt.keep(each.provider, failed, "failed")
            others[each.provider] = answer
    debt.keep(STORED, debt.left, "stale")
    why = owed.rename({"error_code": "reason", "error": "detail"})
    return Delivery(provider, dataset, first, others, debt.frame.join(why, on="symbol").select(_FOUND), (*considered,))


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What somebody else is to deliver instead of `provider`."""

    house: House
    spec: MarketSpec
    provider: str
    dataset: Dataset
    window: tuple[date, date]

    def refusal(self, name: str) -> str:
        """Why a provider cannot stand in at all; empty: it can."""
        item = registry.entry(name)
        if self.spec.code not in item.markets or self.dataset not in item.datasets or name == "files":
            return f"it has no {self.dataset} of this market to ask for"
        if item.synthetic and not registry.entry(self.provider).synthetic:
            return "its data is invented"
        span = self._offer(name).span
        if span and (span[1] < self.window[0] or span[0] > self.window[1]):
            return f"its history is {span[0]} to {span[1]}"
        return ""

    def able(self, name: str, symbols: Iterable[str]) -> tuple[str, ...]:
        """Symbols that a provider can answer for."""
        offer = self._offer(name)
        return tuple(
            symbol
            for symbol in symbols
            if (symbol in offer.universe if offer.universe else symbol.split(":")[1] in offer.asset_types)
            and _spelling(name, symbol)
        )

    def _offer(self, name: str) -> Capabilities:
        return self.house.parser(name).capabilities()


class _Debt:
    """Symbols still owed, and who was asked for them."""

    def __init__(self, symbols: Iterable[str]) -> None:
        self.left = dict.fromkeys(symbols)
        self._rows: list[tuple[str, str, str]] = []

    def keep(self, fallback: str, symbols: Iterable[str], outcome: str) -> None:
        self._rows += [(symbol, fallback, outcome) for symbol in symbols]

    def settle(self, fallback: str, symbols: Collection[str], outcome: str) -> None:
        self.keep(fallback, symbols, outcome)
        for symbol in symbols:
            self.left.pop(symbol)

    @property
    def frame(self) -> pl.DataFrame:
        names = ("symbol", "fallback", "outcome")
        return pl.DataFrame(self._rows, _FAILOVERS.select(names).schema, orient="row")


def _leave_to(name: str, wanted: _Wanted, debt: _Debt, run_id: str) -> None:
    """Settle what a provider of the same run has delivered already, or is still going to be asked for."""
    if wanted.refusal(name):
        return
    with wanted.house.warehouse.connect() as connection:
        told = connection.execute(
            """SELECT request, error_code IS NULL FROM raw.fetches
               WHERE run_id = ? AND provider = ? AND dataset = ? AND market = ?""",
            [run_id, name, wanted.dataset, wanted.spec.code],
        ).fetchall()
    able = wanted.able(name, debt.left)
    if not told:
        debt.settle(name, able, "pending")
        return
    heard = {symbol for text, ok in told if ok for symbol in pulls.symbols_of(Request.from_json(text))}
    delivered = [symbol for symbol in able if not heard.isdisjoint({None, symbol, _spelling(name, symbol)})]
    debt.settle(name, delivered, "delivered")


def _candidates(wanted: _Wanted, symbols: Collection[str], without: Collection[str]) -> list[Candidate]:
    """Who could deliver symbols, the most promising first; equals in the configured order."""
    ranked = [name for name in wanted.house.ranked(wanted.spec) if name not in {wanted.provider, *without}]
    success = _success(wanted.house, wanted.spec) if ranked else {}
    found = [_weigh(wanted, name, symbols, success.get(name, 1.0)) for name in ranked]
    return sorted(found, key=lambda each: -each.score)


def _weigh(wanted: _Wanted, name: str, symbols: Collection[str], success: float) -> Candidate:
    refusal = wanted.refusal(name)
    able = () if refusal else wanted.able(name, symbols)
    if not able:
        return Candidate(name, refusal=refusal or "it does not know the symbols")
    circuit = _circuit(wanted.house, name)
    if circuit:
        return Candidate(name, able, success, refusal=circuit)
    made = plan(wanted.house, Goal(wanted.spec, wanted.window, (name,), (wanted.dataset,), able))
    (leg,) = made.legs
    room = leg.today / len(leg.requests) if leg.requests else 1.0
    hours = (leg.run_ends - made.made_at).total_seconds() / 3600
    return Candidate(name, able, success, room * len(able) / len(symbols), hours, "" if room else "its day is used up")


def _circuit(house: House, provider: str) -> str:
    state = State(house.state_path)
    try:
        circuit = CircuitBreaker(state).look(provider)
    finally:
        state.close()
    return f"its circuit is open until {circuit.until:%H:%M:%SZ}" if circuit.state is CircuitState.OPEN else ""


def _success(house: House, spec: MarketSpec) -> dict[str, float]:
    """Share of each provider's pulls of late that did not fail."""
    with house.warehouse.connect() as connection:
        rows = frame(
            connection,
            f"""SELECT provider, 1 - sum(failed) / sum(requests) AS success FROM {PROVIDER_HEALTH.full_name}
                WHERE market = $market AND date > $today - {RECENT_DAYS} GROUP BY provider""",
            {"market": spec.code, "today": house.clock().date()},
        )
    return dict(rows.iter_rows())


def _by_symbol(provider: str, asked: Collection[str], missed: pl.DataFrame) -> pl.DataFrame:
    """`Acquired.missed` for canonical symbols; a failure of the whole market is told for every symbol."""
    whole = missed.filter(pl.col("symbol").is_null()).drop("symbol")
    everybody = pl.DataFrame({"symbol": list(asked if whole.height else [])}, schema={"symbol": pl.String})
    spelled = {spelling: symbol for symbol in asked if (spelling := _spelling(provider, symbol))}
    single = missed.drop_nulls("symbol").with_columns(pl.col("symbol").replace(spelled))
    named = pl.concat([single, everybody.join(whole, how="cross").select(missed.columns)])
    return named.filter(pl.col("symbol").is_in(list(asked))).unique("symbol", keep="first", maintain_order=True)


def _spelling(provider: str, symbol: str) -> str | None:
    """How a provider spells a symbol, in requests about several too; None: it cannot."""
    try:
        return to_provider(symbol, provider)
    except UnknownProvider:  # one that spells as we do
        return symbol
    except UnknownSymbol:
        return None


def keep(connection: duckdb.DuckDBPyConnection, spec: MarketSpec, made: Delivery, run_id: str, now: datetime) -> None:
    """Enter who was asked instead of whom into `quality.failovers`, replacing what the same run had entered."""
    place = {"run_id": run_id, "market": spec.code, "dataset": made.dataset, "provider": made.provider}
    conditions = " AND ".join(f"{name} = ${name}" for name in place)
    connection.execute(f"DELETE FROM {FAILOVERS.full_name} WHERE {conditions}", place)
    stamps = {name: pl.lit(value) for name, value in place.items()}
    insert(connection, FAILOVERS, made.failovers.with_columns(**stamps, decided_at=pl.lit(now)))


def staleness(
    connection: duckdb.DuckDBPyConnection, spec: MarketSpec, provider: str, run_id: str, thresholds: Thresholds
) -> Measurement:
    """Symbols of a provider for which stored data stands in, as nobody delivered, with the newest session stored."""
    evidence = frame(
        connection,
        f"""SELECT f.symbol, f.dataset, f.reason, max(b.session) AS newest_session, f.detail
            FROM {FAILOVERS.full_name} AS f LEFT JOIN clean.bars AS b USING (symbol)
            WHERE f.run_id = $run AND f.market = $market AND f.provider = $provider AND f.fallback = '{STORED}'
            GROUP BY ALL ORDER BY f.symbol, f.dataset""",
        {"run": run_id, "market": spec.code, "provider": provider},
    )
    stale = float(evidence["symbol"].n_unique())
    return Measurement("stale_fallback", stale, evidence, provider, thresholds=thresholds)
