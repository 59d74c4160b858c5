"""Ctrl-C and SIGTERM: they end a run whatever Python is doing when they arrive.

Python raises `KeyboardInterrupt` wherever it happens to be, and drops exceptions in destructors and
in callbacks of weak references. TensorFlow and Keras run many of these, so that the run would
continue to its end. The signal is therefore noted as well, and `check`, which trainings call after
every batch, raises it again.
"""

import contextlib
import signal
import threading
from collections.abc import Iterator


class Terminated(KeyboardInterrupt):
    """SIGTERM, as sent by a batch system or `kill`. It ends a run as Ctrl-C does."""


KINDS = {signal.SIGINT: KeyboardInterrupt, signal.SIGTERM: Terminated}
DEFAULTS = (signal.SIG_DFL, signal.default_int_handler)

_heard: type[KeyboardInterrupt] | None = None  # global, since a signal is for the whole process


@contextlib.contextmanager
def listening() -> Iterator[None]:
    """Let both signals raise, and note them, while the block runs in the main thread.

    A signal that has another handler keeps it. So does one that the process was started to ignore,
    as background processes of a shell without job control are.
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
    """Return the noted signal's exception type, or None."""
    return _heard


def check() -> None:
    """Raise the noted signal's exception again, in case it was dropped."""
    if _heard is not None:
        raise _heard
