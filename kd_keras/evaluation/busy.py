"""Find out whether a measurement of time had the machine to itself."""

import os
import time
from pathlib import Path

STAT = Path("/proc/stat")  # of Linux
FREE = 0.1  # share of all processors that other programs may take


class Watch:
    """Watches, from its creation on, what other programs take of the processors.

    It counts what all processors have done, less what this process has: our own threads may keep
    every core busy, as a measurement of our own speed does.

    Example:
        >>> watch = Watch()
        >>> share = watch.others()
        >>> share is None or 0.0 <= share <= 1.0
        True
    """

    def __init__(self) -> None:
        self._start = self._now()

    def others(self) -> float | None:
        """Return the share of all processors that other programs took; None if not known."""
        now = self._now()
        if now is None or self._start is None:
            return None
        busy, ours, seconds = (then - before for then, before in zip(now, self._start, strict=True))
        whole = seconds * (os.cpu_count() or 1)
        return min(1.0, max(0.0, busy - ours) / whole) if whole else 0.0

    @staticmethod
    def _now() -> tuple[float, float, float] | None:
        """Return the seconds that all processors have worked, those of this process, and the time.

        None on a system that does not say.
        """
        if not STAT.exists():
            return None
        # user, nice, system, idle, waiting for a disk, interrupts of two kinds, and stolen: taken
        # by other virtual machines
        ticks = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
        busy = sum(ticks) - ticks[3] - ticks[4]
        return busy / os.sysconf("SC_CLK_TCK"), time.process_time(), time.perf_counter()
