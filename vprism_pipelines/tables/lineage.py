"""Which columns a column is made of."""

from __future__ import annotations

from vprism_pipelines.tables.base import Column, Table

COLUMN_LINEAGE = Table(
    "ops",
    "column_lineage",
    ("table_name", "column_name", "source_table", "source_column", "kind"),
    "One row per column and source, as declared in the data dictionary.",
    (
        Column("table_name", "VARCHAR", "schema.table"),
        Column("column_name", "VARCHAR", "column; * for all of the table"),
        Column("source_table", "VARCHAR", "schema.table it comes from"),
        Column("source_column", "VARCHAR", "column it comes from"),
        Column("kind", "VARCHAR", "value: it goes into the value; choice: it decides which rows the table holds"),
    ),
)
