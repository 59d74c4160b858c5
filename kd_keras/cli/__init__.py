"""The command line: each command is a few lines over the library."""

from kd_keras.cli.entry import COMMANDS, main

__all__ = ["COMMANDS", "main"]
