"""Utilities that import nothing else of the library: checks, files, records, specs, signals."""
