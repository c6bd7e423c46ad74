"""How data arrives: one module per provider, one transport for all of them."""
