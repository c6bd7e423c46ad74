"""vprism pipelines: an open market-data warehouse that remembers every pull and explains every number."""

__version__ = "0.1.0"
