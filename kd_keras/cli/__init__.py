"""The command line: each command is a few lines over the library.

Nothing is imported here that takes long: Ctrl-C is heard from the start.
"""

import importlib
import os
import signal
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from kd_keras.utils import interrupts

__all__ = ["COMMANDS", "door", "main"]

# what goes on where it was interrupted; the others have nothing to go on from
GO_ON = ("distill", "study", "compare", "tune", "train", "cache")


def __getattr__(name: str) -> Any:
    if name == "COMMANDS":
        return importlib.import_module("kd_keras.cli.entry").COMMANDS
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def main(arguments: Sequence[str] | None = None, only: str | None = None) -> int:
    """Run a command; the exit code.

    Exit codes: 0 done, 1 failed, 2 the words or the data given are wrong, 130 interrupted by
    Ctrl-C, 143 by SIGTERM.

    Args:
        arguments: those of the process if not given.
        only: `"MODULE:CLASS"` of the one command that there is, whose name is not among the
            arguments; its defaults are those of `tune`.
    """
    words = list(sys.argv[1:] if arguments is None else arguments)
    kind: type[KeyboardInterrupt] | None = None
    try:
        with interrupts.listening():
            try:
                code = importlib.import_module("kd_keras.cli.entry").run(words, only)
                interrupts.check()
                return code
            except Exception:
                # one that was heard in the middle of an import, or of a library's C code, may
                # come out of it as another error
                kind = interrupts.heard()
                if kind is None or "KD_KERAS_TRACEBACK" in os.environ:
                    raise
    except KeyboardInterrupt as error:
        kind = type(error)
    what, code = "interrupted", 130
    if kind is interrupts.Terminated:
        what, code = "terminated by SIGTERM", 143
    goes_on = only is not None or (words[:1] and words[0] in GO_ON)
    rest = "; the same command goes on from here" if goes_on else ""
    print(f"kd-keras: {what}{rest}", file=sys.stderr)
    return code


def door(arguments: Sequence[str] | None = None, only: str | None = None) -> NoReturn:
    """Run a command and end the process; arguments as in `main`.

    What Python does after that is nothing that a second Ctrl-C should show a traceback of.
    """
    code = main(arguments, only)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    sys.exit(code)
