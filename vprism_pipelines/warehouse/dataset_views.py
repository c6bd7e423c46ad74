"""Views and macros over the ledgers beside bars: figures as they could be known, quotes, trades."""

from __future__ import annotations

from typing import Final

from vprism_pipelines.market.spec import MARKETS

_ZONES: Final = " ".join(f"WHEN '{spec.prefix}' THEN '{spec.timezone}'" for spec in MARKETS.values())


def exchange_date(instant: str) -> str:
    """SQL for the exchange's own date of an instant, whatever the reader's session is set to; beside `symbol`."""
    return f"timezone(CASE split_part(symbol, ':', 1) {_ZONES} ELSE 'UTC' END, {instant})::DATE"


def _versions(name: str) -> str:
    """The current version of a ledger, and what was believed at an instant."""
    return f"""
CREATE OR REPLACE VIEW clean.{name} AS SELECT * EXCLUDE (known_to) FROM clean.{name}_ledger WHERE known_to IS NULL;

CREATE OR REPLACE MACRO clean.{name}_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to) FROM clean.{name}_ledger
    WHERE known_from <= ts AND (known_to IS NULL OR known_to > ts);
"""


_FIGURE: Final = "symbol, period_end, period_kind, statement, item, provider"
_SERIES: Final = "symbol, period_kind, statement, item, provider"

# What the market could know at `ts`. Of a figure the warehouse had read by then, the version it believed; of one it
# read later, the first it ever saw, marked `backfilled`, and not before the last day that any version dates it to.
# The same for every day at once: every version from the day `visible_from` on; in the timeline the newest figure of
# each kind.
_FUNDAMENTALS: Final = f"""
CREATE OR REPLACE VIEW clean.fundamentals AS
    SELECT * EXCLUDE (known_to) FROM clean.fundamentals_ledger WHERE known_to IS NULL;

CREATE OR REPLACE MACRO clean.fundamentals_as_of(ts) AS TABLE
    SELECT * EXCLUDE (known_to, dated), known_from > ts AS backfilled
    FROM (SELECT *, max(available_from) OVER (PARTITION BY {_FIGURE}) AS dated FROM clean.fundamentals_ledger)
    WHERE CASE WHEN known_from <= ts THEN available_from ELSE dated END <= {exchange_date("ts")}
    QUALIFY row_number() OVER (
        PARTITION BY {_FIGURE}
        ORDER BY known_from <= ts DESC, epoch_us(known_from) * CASE WHEN known_from <= ts THEN -1 ELSE 1 END
    ) = 1;

CREATE OR REPLACE VIEW clean.fundamentals_visible AS
    WITH dated AS (
        SELECT * EXCLUDE (known_to), {exchange_date("known_from")} + 1 AS read_from,
               max(available_from) OVER (PARTITION BY {_FIGURE}) AS dated,
               row_number() OVER (PARTITION BY {_FIGURE} ORDER BY known_from) = 1 AS first
        FROM clean.fundamentals_ledger)
    SELECT * EXCLUDE (read_from, dated, first),
           CASE WHEN first THEN least(dated, read_from) ELSE read_from END AS visible_from
    FROM dated;

CREATE OR REPLACE VIEW clean.fundamentals_timeline AS
    SELECT * FROM clean.fundamentals_visible
    QUALIFY period_end >= max(period_end) OVER (PARTITION BY {_SERIES} ORDER BY visible_from)
        AND row_number() OVER (PARTITION BY {_SERIES}, visible_from ORDER BY period_end DESC, known_from DESC) = 1;
"""

VIEWS: Final = _FUNDAMENTALS + _versions("quotes") + _versions("ticks")
