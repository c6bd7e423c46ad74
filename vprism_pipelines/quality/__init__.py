"""What we believe: contracts, checks, revisions, consensus. Pure functions over polars frames."""
