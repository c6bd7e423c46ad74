"""Our checks beside what others ship, on the same damaged bars."""
