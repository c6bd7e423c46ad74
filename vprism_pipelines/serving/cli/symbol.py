"""`vprism symbol`: canonical identifiers."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from vprism_pipelines.errors import InvalidInput, UnknownSymbol
from vprism_pipelines.serving.cli.render import Answer
from vprism_pipelines.serving.cli.session import Session, command, group

if TYPE_CHECKING:
    import polars as pl

_HINTS = ("market_hint", "asset_hint")


def add_to(root: typer.Typer) -> None:
    """Add the group to the root."""
    command(group(root, "symbol", "Canonical identifiers MARKET:ASSET:CODE."), "resolve")(resolve)


def resolve(
    session: Session,
    raw: Annotated[list[str] | None, typer.Argument(help="Symbols in any vendor's spelling.")] = None,
    market: Annotated[str | None, typer.Option(help="Market they are of, where they do not say.")] = None,
    asset: Annotated[str | None, typer.Option(help="Asset class they are of: stock, etf, index, …")] = None,
    as_of: Annotated[str | None, typer.Option(help="Date of the spelling; renamed symbols are followed.")] = None,
    file: Annotated[
        Path | None,
        typer.Option(help="CSV with a column raw and optionally market_hint and asset_hint; - reads standard input."),
    ] = None,
) -> Answer:
    """Turn any spelling into a canonical symbol, or say why not.

    Prints jsonl unless told otherwise. Exits with 0 when at least one symbol is resolved, else with 10.
    """
    import polars as pl

    from vprism_pipelines.market import symbols
    from vprism_pipelines.serving.asking import period

    day, _ = period(as_of, None)
    asked = _read(file) if file else pl.DataFrame({"raw": raw or []}, schema={"raw": pl.String})
    if file and raw:
        raise InvalidInput("symbols come from the command line or from a file, not both", hint="drop one of them")
    if asked.is_empty():
        raise InvalidInput("there is no symbol to resolve", hint="name symbols, or a file of them with --file")
    hints = asked.with_columns(pl.lit(None, pl.String).alias(name) for name in _HINTS if name not in asked.columns)
    answers = [
        symbols.resolve(text, market=where or market, asset=what or asset, as_of=day).to_dict()
        for text, where, what in hints.select("raw", *_HINTS).iter_rows()
    ]
    frame = pl.DataFrame(
        answers,
        schema={"raw": pl.String, "status": pl.String, "symbol": pl.String, "code": pl.String, "rule_id": pl.String,
                "diagnostics": pl.List(pl.String)},
    )  # fmt: skip
    unresolved = frame.filter(pl.col("symbol").is_null())
    if unresolved.height < frame.height:
        return Answer(frame, preferred="jsonl")
    failure = UnknownSymbol(
        f"none of {frame.height} symbols can be resolved",
        hint=frame["diagnostics"][0][-1],
        reason=", ".join(unresolved["code"].unique().sort()),
    )
    return Answer(frame, preferred="jsonl", errors=(failure,))


def _read(file: Path) -> pl.DataFrame:
    import polars as pl

    try:
        source = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        frame = pl.read_csv(source, infer_schema=False, truncate_ragged_lines=True)
    except OSError as error:
        raise InvalidInput(f"cannot read {file}: {error.strerror}", hint="name a readable CSV file") from error
    except pl.exceptions.PolarsError as error:
        raise InvalidInput(
            f"{file} is no CSV file: {str(error).splitlines()[0]}", hint="UTF-8, comma separated, with a header"
        ) from error
    if "raw" not in frame.columns:
        raise InvalidInput(
            f"{file} has no column raw", hint=f"it has {', '.join(frame.columns)}; name the column of symbols raw"
        )
    return frame.with_columns(pl.col("raw").fill_null(""))
