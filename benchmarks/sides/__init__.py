"""The sides of the races: one file for each, run as a process of its own in the environment of its peer."""
