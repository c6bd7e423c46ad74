"""Where it lives: lake, ledger, golden tables, snapshots. The only floor that touches DuckDB."""
