"""The command line: each command is a few lines over the library.

Nothing slow is imported here, so that Ctrl-C is noticed from the start.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from kd_keras.utils import interrupts

__all__ = ["COMMANDS", "door", "main"]

# commands that resume after an interruption
GO_ON = ("distill", "pretrain", "sweep", "compare", "study", "tune", "train", "cache")


def __getattr__(name: str) -> Any:
    if name == "COMMANDS":
        return importlib.import_module("kd_keras.cli.entry").COMMANDS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None, only: str | None = None) -> int:
    """Run a command and return its exit code.

    Exit codes: 0 done, 1 failed, 2 wrong arguments or data, 130 interrupted by Ctrl-C, 143 by
    SIGTERM.

    Args:
        arguments: the arguments; those of the process if not given.
        only: `"MODULE:CLASS"` of the only command, whose name is not among the arguments; its
            defaults are those of `tune`.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given == ["--version"]:
        print(f"kd_keras {importlib.import_module('kd_keras').__version__}")
        return 0
    kind: type[KeyboardInterrupt] | None = None
    try:
        with interrupts.listening():
            try:
                code = importlib.import_module("kd_keras.cli.entry").run(given, only)
                interrupts.check()
                return code
            except Exception:
                # an interrupt during an import, or in a library's C code, may surface as another
                # error
                kind = interrupts.heard()
                if kind is None or "KD_KERAS_TRACEBACK" in os.environ:
                    raise
    except KeyboardInterrupt as error:
        kind = type(error)
    what, code = "interrupted", 130
    if kind is interrupts.Terminated:
        what, code = "terminated by SIGTERM", 143
    goes_on = only is not None or (given[:1] and given[0] in GO_ON)
    rest = "; run the same command to resume" if goes_on else ""
    print(f"kd-keras: {what}{rest}", file=sys.stderr)
    return code


def door(arguments: Sequence[str] | None = None, only: str | None = None) -> NoReturn:
    """Run a command and end the process; arguments as in `main`.

    A second Ctrl-C while Python shuts down shows no traceback.
    """
    code = main(arguments, only)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
