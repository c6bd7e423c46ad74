"""Canonical identifiers: every vendor's spelling of an instrument to one `MARKET:ASSET:CODE`, and back.

    >>> resolve("600519.SS").symbol
    'CN:STOCK:SH600519'
    >>> resolve("BRK-B", market="us").symbol
    'US:STOCK:BRK.B'
    >>> to_provider("CN:STOCK:SH600519", "eastmoney")
    '1.600519'

Rules (`rules`), qualified spellings (`forms`), names and dated renamings (`tables`, data/*.csv) are data; the engine
only compares what they say.
"""

from vprism_pipelines.market.symbols.engine import (
    cache_info,
    parse_canonical,
    resolve,
    resolve_frame,
    resolve_strict,
)
from vprism_pipelines.market.symbols.spelling import to_provider
from vprism_pipelines.market.symbols.terms import ASSETS, CacheInfo, Canonical, Resolution

__all__ = [
    "ASSETS",
    "CacheInfo",
    "Canonical",
    "Resolution",
    "cache_info",
    "parse_canonical",
    "resolve",
    "resolve_frame",
    "resolve_strict",
    "to_provider",
]
