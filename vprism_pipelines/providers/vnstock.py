"""Vietnam through the vnstock package: KBS (`kbs`) and Vietcap (`vci`), asked in a child process of their own.

vnstock is source-available and installed by the user (extra `vnstock`); it is never imported here. Both providers
share one `VnstockChild`, because vnstock counts their calls together. Payloads hold the rows as vnstock returned them;
`parse` also reads recordings of the two hosts' own answers.

    child = VnstockChild.from_settings(settings())
    kbs, vci = KbsProvider(child), VciProvider(child)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, ClassVar

from vprism_pipelines.errors import InvalidInput, InvalidRange, ProviderError, Unavailable, UnknownSymbol
from vprism_pipelines.market.spec import VN
from vprism_pipelines.market.symbols import parse_canonical, to_provider
from vprism_pipelines.providers import vnstock_parse
from vprism_pipelines.providers.base import Capabilities, Dataset, Limit, Parsed, Payload, Quota, Request
from vprism_pipelines.providers.http_errors import REASON_HEADER
from vprism_pipelines.providers.vnstock_child import CALLS_PER_MINUTE, Answer, VnstockChild

if TYPE_CHECKING:
    from vprism_pipelines.settings import Settings

__all__ = ["KbsProvider", "VciProvider", "VnstockChild"]

_OPERATIONS: Mapping[Dataset, str] = {
    "bars": "history",
    "instruments": "listing",
    "actions": "events",
    "quotes": "board",
    "ticks": "trades",
}
# What is asked about a company's figures: statement, period, and what it costs of vnstock's quota, which counts the
# look-up of the kind of company, too.
_REPORTS: tuple[tuple[str, str], ...] = (
    *((name, period) for name in ("balance_sheet", "income_statement", "cash_flow") for period in ("quarter", "year")),
    ("ratio", "quarter"),
)
_REPORT_COST = 2
_BOARD_SYMBOLS = 50
# vnstock's names of indices where they are not VCI's own.
_INDEX_NAMES: Mapping[str, str] = {
    "HNXUpcomIndex": "UPCOMINDEX",
    "VNMIDCAP": "VNMID",
    "VNSMALLCAP": "VNSML",
    "VNALLSHARE": "VNALL",
    "VNXALLSHARE": "VNXALL",
}
# Both providers draw on it: vnstock counts its calls together, and some of them twice.
_QUOTA = Quota(
    per_minute=CALLS_PER_MINUTE,
    burst=1,
    per_day=5_000,
    concurrency=1,
    day_zone=VN.timezone,
    windows=(Limit(1_200, 3_600),),
    account="vnstock",
    source="vnstock's own limiter (vnai), guest: 20 a minute, 1,200 an hour, 5,000 a day; we keep below the first",
)
_ROLLING = re.compile(r"F\d[MQ]$")
_KEPT = timedelta(hours=15)  # quotes and trades of a session are there until the next one opens
_AHEAD = timedelta(days=60)  # ex-dates are announced before they come
_LICENCE = (
    "vnstock is source-available: personal, study and research use, no redistribution, no product that gives third "
    "parties market data. The data belong to the exchanges and the broker."
)


def _utc_now() -> datetime:
    return datetime.now(UTC)


class _VnstockProvider:
    """What the two have in common.

    Args:
        child: The process to ask; None plans and parses only.
        clock: Now, for `Payload.fetched_at`.
    """

    name: str
    parser_version: str = "2"
    _title: ClassVar[str]
    _history: ClassVar[str]
    _windows: ClassVar[Mapping[Dataset, timedelta]]
    """Longest window of one request; a dataset that is not in it is not offered. Zero: the answer has no window."""

    def __init__(self, child: VnstockChild | None = None, *, clock: Callable[[], datetime] = _utc_now) -> None:
        self._child = child
        self._clock = clock

    @staticmethod
    def process(settings: Settings) -> VnstockChild:
        """The child process that an installation's settings describe; it starts with the first question."""
        return VnstockChild.from_settings(settings)

    def capabilities(self) -> Capabilities:
        """What this provider offers. The quota is the pace of the shared process: both providers draw on it."""
        return Capabilities(
            name=self.name,
            title=self._title,
            markets=(VN.code,),
            asset_types=("STOCK", "ETF", "FUND", "INDEX", "WARRANT", "FUTURES"),
            datasets=tuple(self._windows),
            price_basis="adjusted_by_source",
            history=self._history,
            quota=_QUOTA,
            licence=_LICENCE,
            perishable=_KEPT,
        )

    def plan(
        self, market: str, dataset: Dataset, symbols: Sequence[str], start: date, end: date, now: datetime
    ) -> list[Request]:
        """One request per symbol and window, of shares only for actions; one for the whole listing. None after today.

        Quotes take one per fifty symbols and trades one per symbol, both about today; figures eight per company.

        Raises:
            InvalidInput: Another market, or a dataset this provider does not have.
            InvalidRange: The range is reversed or lies in the future.
            UnknownSymbol: vnstock has no spelling for a symbol, or reads it as another instrument.
        """
        if market.lower() != VN.code or dataset not in self._windows:
            raise InvalidInput(
                f"{self.name} has no {dataset} of market {market!r}",
                hint=f"it has {', '.join(self._windows)} of market {VN.code!r}",
            )
        if dataset == "instruments":
            return [self._request(dataset)]
        today = VN.today(now)
        if start > end or start > today:
            raise InvalidRange(
                f"no sessions from {start} to {end}", hint=f"use a range that begins by {min(end, today)}"
            )
        named = list(dict.fromkeys(symbols))
        if dataset == "quotes":
            chunks = [named[first : first + _BOARD_SYMBOLS] for first in range(0, len(named), _BOARD_SYMBOLS)]
            return [self._board(chunk, today) for chunk in chunks]
        if dataset == "ticks":
            return [self._request(dataset, symbol, today, today) for symbol in named]
        shares = [symbol for symbol in named if dataset == "bars" or parse_canonical(symbol).asset == "STOCK"]
        if dataset == "fundamentals":
            return [question for symbol in shares for question in self._figures(symbol, start, min(end, today))]
        return [
            self._request(dataset, symbol, first, last)
            for symbol in shares
            for first, last in _split(start, min(end, today), self._windows[dataset])
        ]

    async def fetch(self, request: Request) -> Payload:
        """Put the question to the child process. Status 200 with its rows, or 0 with the code of what went wrong."""
        answer = await self._ask(request)
        headers = {"content-type": "application/json"}
        if answer.error:
            headers[REASON_HEADER] = str(answer.content.get("message"))
            if answer.retry_after is not None:
                headers["retry-after"] = f"{answer.retry_after:.0f}"
        if answer.refused:
            headers[vnstock_parse.REFUSED_HEADER] = "; ".join(answer.refused)
        return Payload(
            request=request,
            status=0 if answer.error else 200,
            body=json.dumps(answer.content, ensure_ascii=False, separators=(",", ":")).encode(),
            fetched_at=self._clock(),
            headers=headers,
            latency_ms=answer.latency_ms,
            error=answer.error,
        )

    def parse(self, payload: Payload) -> Parsed:
        """Frames of one payload, from vnstock or recorded from the hosts themselves.

        Raises:
            ProviderError: There is no data in it; the class says why.
        """
        try:
            return vnstock_parse.parse(payload)
        except ProviderError as error:
            error.hint = (
                error.hint or f"the format of {self.name} may have changed: the archived payload shows what came"
            )
            raise

    async def aclose(self) -> None:
        """End the child process, also for the provider it is shared with; asking again starts another."""
        if self._child:
            await self._child.aclose()

    async def _ask(self, request: Request) -> Answer:
        if self._child is None:
            reason = f"{self.name} was given no vnstock process to ask"
            return Answer({"code": Unavailable.code, "message": reason}, error=Unavailable.code)
        symbol = request.provider_symbol
        end = request.end + _AHEAD if request.end and request.dataset == "actions" else request.end
        return await self._child.ask(
            {
                "source": self.name.upper(),
                "op": request.url.rpartition("/")[2] or _OPERATIONS[request.dataset],
                "symbol": _INDEX_NAMES.get(symbol, symbol) if symbol else None,
                "index": request.symbol is not None and parse_canonical(request.symbol).asset == "INDEX",
                "start": request.start.isoformat() if request.start else None,
                "end": end.isoformat() if end else None,
                "calls": request.cost,
                **request.params,
            }
        )

    def _request(
        self, dataset: Dataset, symbol: str | None = None, start: date | None = None, end: date | None = None
    ) -> Request:
        return Request(
            provider=self.name,
            dataset=dataset,
            market=VN.code,
            symbol=symbol,
            provider_symbol=self._spelling(symbol) if symbol else None,
            start=start,
            end=end,
            url=f"vnstock://{self.name}/{_OPERATIONS.get(dataset, 'company')}",
        )

    def _board(self, symbols: Sequence[str], today: date) -> Request:
        spelled = ",".join(self._spelling(symbol) for symbol in symbols)
        return replace(self._request("quotes", None, today, today), params={"symbols": spelled})

    def _figures(self, symbol: str, start: date, end: date) -> Iterator[Request]:
        """Statements by quarter and by year, ratios, and the company itself: each is part of the answer."""
        company = self._request("fundamentals", symbol, start, end)
        yield replace(company, part="company")
        for statement, period in _REPORTS:
            yield replace(
                company,
                url=f"vnstock://{self.name}/figures",
                params={"statement": statement, "period": period},
                cost=_REPORT_COST,
                part=f"{statement}_{period}",
            )

    def _spelling(self, symbol: str) -> str:
        code = to_provider(symbol, self.name)
        if parse_canonical(symbol).asset == "FUTURES" and _ROLLING.search(code):
            raise UnknownSymbol(
                f"vnstock reads {code} as today's nearest contract, whatever the window",
                hint="ask for the contracts themselves, such as VN30F2509",
                symbol=symbol,
                provider=self.name,
            )
        return code


class KbsProvider(_VnstockProvider):
    """KB Securities: prices in whole VND and the traded value, a year a request."""

    name = "kbs"
    _title = "KB Securities Vietnam, through vnstock"
    _history = "daily bars since listing, a year a request; back-adjusted, rewritten after every ex-date"
    _windows: ClassVar[Mapping[Dataset, timedelta]] = {
        "bars": timedelta(days=365),
        "instruments": timedelta(),
        "quotes": timedelta(),
        "ticks": timedelta(),
    }


class VciProvider(_VnstockProvider):
    """Vietcap: prices rounded to 10 VND, many years a request; dividends and share issues."""

    name = "vci"
    _title = "Vietcap Securities, through vnstock"
    _history = "daily bars since listing, seven years a request; back-adjusted, rewritten after every ex-date"
    # vnstock cuts a table to the 8 years before its newest row, and a page of events to 50.
    _windows: ClassVar[Mapping[Dataset, timedelta]] = {
        "bars": timedelta(days=7 * 365),
        "instruments": timedelta(),
        "actions": timedelta(days=10 * 365),
        "fundamentals": timedelta(),
        "quotes": timedelta(),
    }


def _split(start: date, end: date, longest: timedelta) -> Iterator[tuple[date, date]]:
    """Consecutive windows of at most `longest` from first to last day, both inclusive."""
    while start <= end:
        last = min(end, start + longest - timedelta(days=1))
        yield start, last
        start = last + timedelta(days=1)
