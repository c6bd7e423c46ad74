"""Quality asset: providers and parsers on probation, compared with the one in use."""

from __future__ import annotations

import dagster as dg

from vprism_pipelines.assets.factory import Outcome, Step, markdown_table
from vprism_pipelines.warehouse import shadow as probation
from vprism_pipelines.warehouse.measures import Measurement, record


def shadow(step: Step) -> Outcome:
    """Compare everybody on probation; nothing to do where nobody is."""
    now = step.house.clock()
    with step.writing() as (connection, tally):
        compared = probation.run(connection, step.market, step.run_id, now)
        tally.rows, tally.accepted = int(compared["rows"].sum()), compared.height
        failed = Measurement("shadow_gate", float((~compared["passed"]).sum()), compared)
        if compared.height:
            record(connection, step.market, [failed], step.run_id, now)
    shown = {"compared": dg.MetadataValue.md(markdown_table(compared))} if compared.height else {}
    return Outcome(compared.height, shown, [failed])
