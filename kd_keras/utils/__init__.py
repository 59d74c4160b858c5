"""What needs nothing of the rest: checks, files and their records, specs, signals."""
