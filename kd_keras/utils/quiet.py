"""Keep what other libraries print and log about their work away from the user."""

import contextlib
import logging
import os
import sys
from collections.abc import Iterator


@contextlib.contextmanager
def without_chatter() -> Iterator[None]:
    """Hide what the block writes to the file descriptor of standard error, as C++ does.

    What other threads write there meanwhile is hidden too, so the block should be short. What the
    block has to say of a failure must be in its exception.

    Example:
        >>> with without_chatter():
        ...     _ = os.write(2, b"INFO: a greeting")
    """
    sys.stderr.flush()
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


@contextlib.contextmanager
def unlogged(name: str, level: int = logging.WARNING) -> Iterator[list[str]]:
    """Keep a logger from reporting what is below a level; yield what the rest would have been.

    Args:
        name: of the logger; its children are meant too.
        level: messages of this level and above are collected in the list, and not reported.

    Example:
        >>> with unlogged("another.library") as said:
        ...     logging.getLogger("another.library.part").warning("odd")
        >>> said
        ['odd']
    """
    logger, said = logging.getLogger(name), list[str]()
    before = logger.level, logger.propagate, logger.handlers
    logger.setLevel(level)
    logger.propagate, logger.handlers = False, [_Collector(said)]
    try:
        yield said
    finally:
        logger.setLevel(before[0])
        logger.propagate, logger.handlers = before[1:]


class _Collector(logging.Handler):
    """Puts messages into a list."""

    def __init__(self, said: list[str]):
        super().__init__()
        self._said = said

    def emit(self, record: logging.LogRecord) -> None:
        self._said.append(record.getMessage())
