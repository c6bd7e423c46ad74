"""Pulls that come late: what their provider said since must be threaded into the ledger with them."""

from __future__ import annotations

import duckdb
import polars as pl

from vprism_pipelines.market.spec import MarketSpec
from vprism_pipelines.warehouse import ledger
from vprism_pipelines.warehouse.building import frame
from vprism_pipelines.warehouse.ingest import clean_pulls
from vprism_pipelines.warehouse.lake import Lake


def said_since(
    connection: duckdb.DuckDBPyConnection,
    lake: Lake,
    spec: MarketSpec,
    dataset: str,
    pulls: pl.DataFrame,
    accepted: pl.DataFrame,
) -> pl.DataFrame | None:
    """What a provider said of the same keys after some of its pulls.

    A confirmation costs the ledger no row, so only the pulls themselves can tell what was believed after a late one.
    They are read file by file: no more than one of them is in memory, and the rows that matter.

    Args:
        connection: The private file.
        lake: The archive.
        spec: Market.
        dataset: One of `ledger.LEDGERS`.
        pulls: provider, fetched_at of pulls of one provider that are not remembered yet.
        accepted: Their rows.

    Returns:
        Rows as they were accepted; None: nothing was said since, as is the rule.
    """
    later = frame(
        connection,
        """SELECT f.fetch_id, f.provider, f.fetched_at, f.rows_path
           FROM raw.fetches AS f JOIN ops.ingests AS i USING (fetch_id, parser_version)
           WHERE f.provider = $provider AND f.market = $market AND i.dataset = $dataset AND f.fetched_at > $oldest
           ORDER BY f.fetched_at, f.fetch_id""",
        {
            "provider": pulls["provider"][0],
            "market": spec.code,
            "dataset": dataset,
            "oldest": pulls["fetched_at"].min(),
        },
    )
    if later.is_empty():
        return None
    key = ledger.LEDGERS[dataset].key
    files = later.group_by("rows_path", maintain_order=True)
    return pl.concat(
        [clean_pulls(lake, spec, dataset, file).accepted.join(accepted, on=key, how="semi") for _, file in files]
    )
