"""The last asset of every run: the snapshot everybody reads."""

from __future__ import annotations

import dagster as dg

from vprism_pipelines.assets.factory import Outcome, Step
from vprism_pipelines.warehouse.publish import publish


def published(step: Step) -> Outcome:
    """Prove the keys, copy the private file, swap the published name."""
    done = publish(step.house.warehouse, step.run_id, step.house.clock())
    database = step.house.settings.database
    return Outcome(
        done.snapshot,
        {
            "dagster/uri": str(database),
            "snapshot": done.path.name,
            "content hash": done.content_hash,
            "megabytes": round(done.path.stat().st_size / 1e6, 1),
            "query it": dg.MetadataValue.md(f'`vprism sql "FROM golden.bars LIMIT 5"` or open `{database}`'),
        },
    )
