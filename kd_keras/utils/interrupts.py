"""Ctrl-C and SIGTERM: they end a run whatever Python is doing when they come.

Python raises `KeyboardInterrupt` wherever it happens to be, and drops what is raised in a
destructor or in the callback of a weak reference. TensorFlow and Keras run many of these: the run
would go on to its end. So what was heard is noted as well, and `check`, which trainings call after
every batch, raises it again.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM, as a batch system or `kill` sends it. It ends a run as Ctrl-C does."""


KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)

_heard: type[KeyboardInterrupt] | None = None  # a signal is of the whole process


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """A block in which both signals raise, and are noted. It is for the main thread.

    A signal that something else handles, or that the process was started to ignore, as a shell
    without job control starts what it runs in the background, stays as it was.
    """
    global _heard
    before = {}
    if threading.current_thread() is threading.main_thread():
        before = {n: h for n in KINDS if (h := signal.getsignal(n)) in DEFAULTS}
    try:
        for number in before:
            signal.signal(number, _note)
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        _heard = None


def _note(number: int, frame: object) -> None:
    global _heard
    _heard = KINDS[signal.Signals(number)]
    raise _heard


def heard() -> type[KeyboardInterrupt] | None:
    """What was heard, if anything was."""
    return _heard


def check() -> None:
    """Raise what was heard, in case somebody has dropped it."""
    if _heard is not None:
        raise _heard
