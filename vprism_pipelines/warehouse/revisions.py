"""Why every version in the ledger exists, and the rebases among them: a function of the ledger's content alone.

When a pull is remembered, only its own changed bars are at hand. This pass sees the whole chain of versions (a value
taken back later was an error) and what the same pull left as it was (a rebase leaves nothing before its ex-date), and
renames what it now knows better. Incremental by watermark; a full pass gives the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.quality.pieces import PULL, RATIO_DIGITS, find_pieces
from vprism_pipelines.quality.revisions import changes, confirmed, marked, named
from vprism_pipelines.tables import REBASES
from vprism_pipelines.warehouse.building import frame, insert, prefix, scalar, set_watermark, watermark
from vprism_pipelines.warehouse.writer import next_batch

__all__ = ["Revised", "build_revisions"]

STAGE = "quality.rebases"
BLOCK_ROWS = 500_000  # versions judged at a time: bounds memory

_VERSIONS = """symbol, session, provider, known_from, open, high, low, close, volume, value, adj_close, exchange,
    price_basis, provisional, change_class, fetch_id"""


@dataclass(frozen=True, slots=True)
class Revised:
    """What a pass did: changes judged, those among them named otherwise than before, rebases found, by class."""

    judged: int = 0
    renamed: int = 0
    rebases: int = 0
    classes: dict[str, int] = field(default_factory=dict)


def build_revisions(connection: duckdb.DuckDBPyConnection, spec: MarketSpec) -> Revised:
    """Name every change of the market's bars and bring `quality.rebases` up to the ledger, in the caller's transaction.

    A version that gets another name gets a new batch number, so that the builds after this one look at its key again.
    """
    scope, since = prefix(spec), watermark(connection, STAGE, spec)
    newest = scalar(connection, f"SELECT max(batch) FROM clean.bars_ledger WHERE {scope}") or 0
    if newest <= since:
        return Revised()
    _find_pulls(connection, scope, since)
    connection.execute(
        f"""DELETE FROM quality.rebases AS r WHERE {scope} AND (
                EXISTS (FROM judged_pulls AS p WHERE p.symbol = r.symbol AND p.provider = r.provider
                        AND p.known_from = r.known_from)
                OR NOT EXISTS (FROM clean.bars_ledger AS l WHERE l.symbol = r.symbol AND l.provider = r.provider
                               AND l.known_from = r.known_from AND l.change_class <> 'new'))"""
    )
    batch = next_batch(connection)
    parts = [_judge(connection, block, batch) for block in _blocks(connection)]
    set_watermark(connection, STAGE, spec, batch if any(part.renamed for part in parts) else newest)
    classes: dict[str, int] = {}
    for part in parts:
        for name, count in part.classes.items():
            classes[name] = classes.get(name, 0) + count
    return Revised(
        sum(part.judged for part in parts),
        sum(part.renamed for part in parts),
        sum(part.rebases for part in parts),
        dict(sorted(classes.items())),
    )


def _find_pulls(connection: duckdb.DuckDBPyConnection, scope: str, since: int) -> None:
    """`judged_pulls`: pulls that changed something, and about which the new rows may say something new.

    These are the new pulls, those after a late one, those whose values were replaced now, and those whose rebase had
    no session after it.
    """
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE judged_pulls AS
            WITH touched AS (
                SELECT symbol, provider, min(known_from) AS since FROM clean.bars_ledger
                WHERE {scope} AND batch > {since} GROUP BY symbol, provider)
            SELECT DISTINCT l.symbol, l.provider, l.known_from
            FROM clean.bars_ledger AS l JOIN touched AS t USING (symbol, provider)
            WHERE {scope} AND l.change_class <> 'new' AND (l.known_from >= t.since OR l.known_to >= t.since)
            UNION
            SELECT symbol, provider, known_from FROM quality.rebases SEMI JOIN touched USING (symbol, provider)
            WHERE ex_date IS NULL"""
    )
    connection.execute(
        f"""CREATE OR REPLACE TEMP TABLE judged_keys AS
            SELECT DISTINCT symbol, session, provider FROM clean.bars_ledger
            SEMI JOIN judged_pulls USING (symbol, provider, known_from) WHERE {scope} AND change_class <> 'new'"""
    )


def _blocks(connection: duckdb.DuckDBPyConnection) -> Iterator[str]:
    """SQL conditions that name about `BLOCK_ROWS` versions each, whole symbols."""
    counts = connection.execute(
        """SELECT symbol, count(*) FROM clean.bars_ledger SEMI JOIN judged_keys USING (symbol, session, provider)
           GROUP BY symbol ORDER BY symbol"""
    ).fetchall()
    first, rows = "", 0
    for place, (symbol, count) in enumerate(counts, start=1):
        first, rows = first or symbol, rows + count
        if rows >= BLOCK_ROWS or place == len(counts):
            yield f"symbol BETWEEN '{first}' AND '{symbol}'"
            first, rows = "", 0


def _judge(connection: duckdb.DuckDBPyConnection, block: str, batch: int) -> Revised:
    versions = frame(
        connection,
        f"""SELECT {_VERSIONS}, rowid AS place_in_ledger FROM clean.bars_ledger
            SEMI JOIN judged_keys USING (symbol, session, provider)
            WHERE {block} ORDER BY symbol, session, provider, known_from""",
    )
    pulls = frame(connection, f"FROM judged_pulls WHERE {block}")
    pairs = changes(versions).join(pulls, on=PULL, how="semi", maintain_order="left")
    rows, pieces = find_pieces(marked(pairs))
    pieces = _with_context(connection, rows, pieces)
    pieces = pieces.filter(confirmed(pieces))
    judged = rows.select("place_in_ledger", "change_class", named=named(rows, pieces))
    renamed = judged.filter(pl.col("change_class") != pl.col("named"))
    if renamed.height:
        connection.register("renamed", renamed)
        connection.execute(
            f"""UPDATE clean.bars_ledger AS l SET change_class = r.named, batch = {batch}
                FROM renamed AS r WHERE l.rowid = r.place_in_ledger"""
        )
        connection.unregister("renamed")
    insert(connection, REBASES, _with_factors(pieces))
    return Revised(rows.height, renamed.height, pieces.height, dict(judged["named"].value_counts().iter_rows()))


_CONTEXT = """
    WITH asked AS (
        -- What a pull was asked about; where nobody knows, everything.
        SELECT m.symbol, m.provider, m.known_from,
               coalesce(min(f.range_start), '-infinity'::DATE) AS range_start,
               coalesce(max(f.range_end), 'infinity'::DATE) AS range_end
        FROM (SELECT DISTINCT symbol, provider, known_from, fetch_id FROM moved_rows) AS m
        LEFT JOIN raw.fetches AS f USING (fetch_id) GROUP BY ALL),
    standing AS (
        -- Sessions that the pull left as they were, among those that the ratio can be held against.
        SELECT p.number, p.first_session, p.last_session, s.session,
               abs(CASE WHEN field = 'prices' THEN close ELSE adj_close END * (1 - ratio)) > half * (1 + ratio)
                   AS differs
        FROM pieces AS p JOIN asked AS a USING (symbol, provider, known_from)
        JOIN clean.bars_ledger AS s ON s.symbol = p.symbol AND s.provider = p.provider
        WHERE NOT s.provisional AND s.known_from <= p.since AND s.known_from < p.known_from
          AND (s.known_to IS NULL OR s.known_to > p.known_from) AND s.session BETWEEN a.range_start AND a.range_end),
    kept AS (
        SELECT number, count(*) FILTER (differs) AS kept,
               count(*) FILTER (session < first_session AND differs) AS kept_before,
               count(*) FILTER (session BETWEEN first_session AND last_session AND differs) AS kept_between,
               min(session) FILTER (session > last_session) AS kept_after
        FROM standing GROUP BY number),
    others AS (
        -- Sessions that the same pull changed in another way.
        SELECT p.number, min(m.session) AS other_after
        FROM pieces AS p JOIN moved_rows AS m USING (symbol, provider, known_from)
        WHERE m.session > p.last_session AND m.old_known_from <= p.since
          AND (m.field = p.field AND m.piece <> p.piece
               OR m.piece IS NULL AND abs(ln(m.moved)) < abs(ln(m.moved / p.ratio)))
        GROUP BY p.number),
    seen AS (
        SELECT p.number, s.known_from, min(s.session) AS oldest, max(s.session) AS newest
        FROM pieces AS p JOIN clean.bars_ledger AS s USING (symbol, provider)
        WHERE s.change_class = 'new' AND s.session > p.last_session AND s.known_from > p.since
        GROUP BY p.number, s.known_from),
    firsts AS (
        -- Sessions first seen after the older values; of several seen at once nobody knows which came first.
        SELECT number, arg_min(oldest, known_from) AS new_after, arg_min(newest, known_from) AS newest
        FROM seen GROUP BY number)
    SELECT number, coalesce(kept, 0) AS kept, coalesce(kept_before, 0) AS kept_before,
           coalesce(kept_between, 0) AS kept_between,
           least(known_after, new_after) AS ex_date,
           CASE WHEN new_after < known_after OR known_after IS NULL THEN least(newest, known_after)
                ELSE known_after END AS ex_date_latest
    FROM (SELECT number, kept, kept_before, kept_between, new_after, newest,
                 least(kept_after, other_after) AS known_after
          FROM pieces LEFT JOIN kept USING (number) LEFT JOIN others USING (number) LEFT JOIN firsts USING (number))
"""


def _with_context(connection: duckdb.DuckDBPyConnection, rows: pl.DataFrame, pieces: pl.DataFrame) -> pl.DataFrame:
    """Add what the same pull left as it was (kept, kept_before, kept_between), ex_date and ex_date_latest."""
    moved = pl.col("close") / pl.col("old_close")
    numbered = pieces.with_row_index("number")
    connection.register("pieces", numbered)
    connection.register(
        "moved_rows",
        rows.select(*PULL, "session", "piece", "field", "old_known_from", "fetch_id", moved=moved),
    )
    found = frame(connection, _CONTEXT)
    connection.unregister("pieces")
    connection.unregister("moved_rows")
    return numbered.join(found, on="number", how="left", maintain_order="left")


def _with_factors(pieces: pl.DataFrame) -> pl.DataFrame:
    """Add the factor of the ex-date alone: the sessions after it have the ratio of the piece that follows."""
    following = pl.col("ratio").shift(-1).over(*PULL, "field", order_by="first_session").fill_null(1.0)
    return pieces.with_columns(factor=(pl.col("ratio") / following).round(RATIO_DIGITS))
