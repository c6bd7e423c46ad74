"""What a market is: calendars, symbols, exchange rules, corporate actions, adjustment, indicators. Pure functions."""
