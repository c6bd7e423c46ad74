"""`vprism explain`: where a published number comes from, down to the bytes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command

if TYPE_CHECKING:
    import polars as pl

    from vprism_pipelines.serving.explanation import Explanation

BasisName = Literal["raw", "split", "qfq", "hfq", "total_return"]


def add_to(root: typer.Typer) -> None:
    """Add the command to the root."""
    command(root, "explain")(explain)


def explain(
    session: Session,
    symbol: Annotated[str, typer.Argument(help="A symbol, in any spelling that only one known symbol has.")],
    day: Annotated[str, typer.Argument(metavar="session", help="The trading day, YYYY-MM-DD.")],
    field: Annotated[str, typer.Argument(help="open, high, low, close, volume, value, or an indicator.")],
    basis: Annotated[BasisName, typer.Option(help="Price basis of the number.")] = "raw",
    as_of: Annotated[str | None, typer.Option(help="What was believed at this instant, 2024-01-31T16:00:00Z.")] = None,
    events: Annotated[bool, typer.Option("--events", help="The bytes of every corporate action, too.")] = False,
) -> Answer:
    """Where a published number comes from, down to the bytes.

    Who said what and why one was believed, the versions, the cleaning, the archived answer with its hash proven, and
    the number's place in it. For machines (jsonl) one nested object.
    """
    from vprism_pipelines.serving.explain import Cell, Explainer

    house = session.house
    (told,) = Explainer(session.library, house.lake, house.clock).explain(
        [Cell(symbol, day, field, basis, as_of, events)]
    )
    if _for_people(session):
        return Answer(_summary(told), tuple(told.tree()))
    return Answer(_nested(told))


def _for_people(session: Session) -> bool:
    output = session.output
    to_data = output.path is not None and output.path.suffix.lower() in (".jsonl", ".ndjson", ".csv", ".parquet")
    return output.format == "table" or (output.format is None and not to_data)


def _summary(told: Explanation) -> pl.DataFrame:
    """What it is, in one row."""
    import polars as pl

    place = told.places[0] if told.places else None
    row = {
        "symbol": told.symbol,
        "session": told.session,
        "field": told.field,
        "basis": told.basis,
        "value": told.value,
        "provider": told.chosen,
        "fetched_at": told.source.fetched_at if told.source else None,
        "bytes": place.text if place else None,
        "reason": told.missing.reason if told.missing else None,
    }
    return pl.DataFrame([{name: value for name, value in row.items() if value is not None}])


def _nested(told: Explanation) -> pl.DataFrame:
    import polars as pl

    def filled(value: Any) -> Any:
        if isinstance(value, dict):  # parquet has no object without fields
            return {name: filled(item) for name, item in value.items()} or None
        return [filled(item) for item in value] if isinstance(value, list) else value

    return pl.DataFrame([filled(told.to_dict())], infer_schema_length=None, strict=False)
