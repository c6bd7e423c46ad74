"""A synthetic Vietnamese exchange (seed -> same bytes) and two vendors who tell of it, each with its own flaws.

Nothing in it exists: codes begin with Z and a digit, or with a digit and a letter, and names end in "(synthetic)".

    exchange    the truth: bars, corporate actions and listings under the dated Vietnamese rule book, any size
    views       what each vendor knows of it at a given moment
    provider    the vendors as providers: `simulated` (complete, raw) and `simulated_b` (rebased, with holes)
"""

from vprism_pipelines.providers.simulated.exchange import Exchange
from vprism_pipelines.providers.simulated.index import INDEX, index_bars
from vprism_pipelines.providers.simulated.provider import SimulatedBProvider, SimulatedProvider

__all__ = ["INDEX", "Exchange", "SimulatedBProvider", "SimulatedProvider", "index_bars"]
