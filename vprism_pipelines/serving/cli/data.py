"""`vprism data`: pull and look, adjusted bars, the history of one bar."""

from __future__ import annotations

from datetime import date, timedelta
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from vprism_pipelines.errors import InvalidInput, NoData
from vprism_pipelines.serving.cli.arguments import End, Start, offered, provider_of, symbols_of
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    import polars as pl

    from vprism_pipelines.market.spec import MarketSpec
    from vprism_pipelines.providers.base import Capabilities
    from vprism_pipelines.quality.rows import Cleaned
    from vprism_pipelines.warehouse.acquire import Acquired
    from vprism_pipelines.warehouse.house import House

Mode = Literal["none", "split", "qfq", "hfq", "total_return"]
_SPAN = timedelta(days=30)
_SHOWN = {
    "bars": ("symbol", "session", "open", "high", "low", "close", "volume", "value", "currency", "price_basis",
             "provisional", "provider", "known_from", "fetch_id"),
    "actions": ("symbol", "ex_date", "event_type", "cash", "split_ratio", "bonus_ratio", "rights_ratio",
                "rights_price", "currency", "inferred", "detail", "provider", "known_from", "fetch_id"),
}  # fmt: skip


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    commands = group(root, "data", "Bars and corporate actions: pull, adjust, trace.")
    command(commands, "fetch")(fetch)
    command(commands, "adjust")(adjust)
    command(commands, "history")(history)


def fetch(
    session: Session,
    symbols: Annotated[list[str], typer.Argument(help="Symbols, in any spelling.")],
    market: Annotated[str | None, typer.Option(help="Market they are of. [default: what they say, else us]")] = None,
    provider: Annotated[str | None, typer.Option(help="Whom to ask. [default: the market's own]")] = None,
    start: Start = None,
    end: End = None,
    dataset: Annotated[Literal["bars", "actions"], typer.Option(help="What to show of the answers.")] = "bars",
) -> Answer:
    """Pull symbols into the archive and show their rows.

    Shows clean rows; nothing is published. By default the last 30 days. What is archived and final already is not
    asked for again. Rejected rows and refused requests are counted on stderr.
    """
    from vprism_pipelines.providers import registry
    from vprism_pipelines.providers.base import new_id
    from vprism_pipelines.warehouse.acquire import acquire

    spec, chosen = symbols_of(symbols, market)
    house = session.house
    name = provider_of(provider or house.providers_of(spec)[0], spec)
    capabilities = house.parser(name).capabilities()
    if dataset not in capabilities.datasets:
        raise InvalidInput(f"{name} has no {dataset}", hint=f"it has {', '.join(capabilities.datasets)}")
    offered(chosen, capabilities)
    window = _window(house, spec, capabilities, start, end)
    with session.output.progress(f"asking {name}") as show:
        pulled = acquire(
            house,
            spec,
            name,
            window,
            f"cli-{new_id()}",
            dataset=dataset if dataset in registry.entry(name).also else None,
            symbols=chosen,
            progress=(lambda done, total: show(f"asking {name}", done, total)) if show else None,
        )
    cleaned = _clean(house, spec, name, dataset, chosen, window)
    nothing = NoData(
        f"{name} has no {dataset} of {', '.join(chosen)} from {window[0]} to {window[1]}",
        hint=f"its history: {capabilities.history}; name other dates with --start and --end",
        provider=name,
    )
    if cleaned is None:
        raise nothing
    rows = _accepted(cleaned, dataset, chosen, window)
    return Answer(rows, aside=_rejected(cleaned, chosen, pulled), errors=() if rows.height else (nothing,))


def adjust(
    session: Session,
    symbols: Annotated[list[str], typer.Argument(help="Symbols in the warehouse.")],
    mode: Annotated[Mode, typer.Option(help="none: as traded; qfq, hfq: forward and backward adjusted.")] = "qfq",
    start: Start = None,
    end: End = None,
    as_of: Annotated[str | None, typer.Option(help="What was believed at this instant, 2024-01-31T16:00:00Z.")] = None,
) -> Answer:
    """Published bars on another price basis.

    With the factor of each session.
    """
    library = session.library
    bars = library.bars(symbols, start, end, "raw" if mode == "none" else mode, as_of)
    return Answer(bars, () if bars.height else _reach(session, symbols))


def history(
    session: Session,
    symbol: Annotated[str, typer.Argument(help="A symbol in the warehouse.")],
    day: Annotated[str, typer.Argument(metavar="session", help="The trading day, YYYY-MM-DD.")],
    field: Annotated[str | None, typer.Option(help="Only this one: open, high, low, close, volume, value, …")] = None,
) -> Answer:
    """All versions of one bar, and who said them.

    With when each was believed, why it changed and by how much, which one golden has, and the payload it is from.
    """
    versions = session.library.history(symbol, day, field)
    return Answer(versions, () if versions.height else _reach(session, [symbol]))


def _reach(session: Session, symbols: list[str]) -> tuple[str, ...]:
    """How far the history of symbols reaches, where a range held nothing."""
    held = session.library.symbols()
    rows = (
        held.filter(held["symbol"].is_in(session.library.canonical(symbols))).select("symbol", "first", "last").rows()
    )
    return tuple(f"{symbol} has bars from {first} to {last}" for symbol, first, last in rows)


def _window(
    house: House, spec: MarketSpec, capabilities: Capabilities, start: str | None, end: str | None
) -> tuple[date, date]:
    from vprism_pipelines.serving.asking import period

    today = spec.today(house.clock())
    first, last = period(start, end, today=today)
    newest = min(today, capabilities.span[1]) if capabilities.span else today
    last = min(last, today) if last else max(newest, first or newest)
    return first or max(last - _SPAN, spec.first_session), last


def _clean(
    house: House, spec: MarketSpec, provider: str, dataset: str, symbols: list[str], window: tuple[date, date]
) -> Cleaned | None:
    """Clean rows of every archived answer about the symbols and sessions; None when there is no answer."""
    from vprism_pipelines.providers import registry
    from vprism_pipelines.warehouse.ingest import clean_pulls, pending

    with house.warehouse.connect() as connection:
        pulls = pending(connection, spec, dataset, window, again=True)
        about = connection.execute(
            "SELECT fetch_id FROM raw.fetches WHERE provider = ? AND (symbol IS NULL OR list_contains(?, symbol))",
            [provider, symbols],
        ).fetchall()
    pulls = pulls.filter(pulls["fetch_id"].is_in([fetch_id for (fetch_id,) in about]))
    if pulls.is_empty():
        return None
    return clean_pulls(house.lake, spec, dataset, pulls, [provider] if registry.entry(provider).synthetic else [])


def _accepted(cleaned: Cleaned, dataset: str, symbols: list[str], window: tuple[date, date]) -> pl.DataFrame:
    """The newest version of every row asked for."""
    import polars as pl

    day = "session" if dataset == "bars" else "ex_date"
    key = ["symbol", day] if dataset == "bars" else ["symbol", day, "event_type", "seq"]
    return (
        cleaned.accepted.filter(pl.col("symbol").is_in(symbols), pl.col(day).is_between(*window))
        .sort(*key, "known_from")
        .unique(key, keep="last", maintain_order=True)
        .select(_SHOWN[dataset])
    )


def _rejected(cleaned: Cleaned, symbols: list[str], pulled: Acquired) -> pl.DataFrame:
    """Rows that were not believed and requests that were refused, by reason."""
    import polars as pl

    others = cleaned.spellings.filter(~pl.col("symbol").is_in(symbols))["raw_symbol"]
    rows = (
        cleaned.quarantined.filter(~pl.col("raw_symbol").is_in(others.implode()).fill_null(value=False))
        .explode("reasons")
        .select(what=pl.lit("rows"), reason="reasons", example="row_json")
    )
    parts = [rows]
    if pulled.failed.height:
        parts.append(pulled.failed.select(what=pl.lit("requests"), reason="error_code", example="error"))
    counted = pl.concat(parts).group_by("what", "reason").agg(count=pl.len(), example=pl.col("example").first())
    return counted.sort("what", "reason")
