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

    Args:
        processes: numbers of further processes of ours, which run until `others` is called.

    Example:
        >>> watch = Watch()
        >>> share = watch.others()
        >>> share is None or 0.0 <= share <= 1.0
        True
    """

    def __init__(self, *processes: int) -> None:
        self._processes = processes
        self._start = self._now()

    def others(self) -> float | None:
        """Return the share of all processors that other programs took; None if not known."""
        now = self._now()
        if now is None or self._start is None:
            return None
        busy, ours, seconds = (then - before for then, before in zip(now, self._start, strict=True))
        whole = seconds * (os.cpu_count() or 1)
        return min(1.0, max(0.0, busy - ours) / whole) if whole else 0.0

    def _now(self) -> tuple[float, float, float] | None:
        """Return the seconds that all processors have worked, those of ours, and the time.

        None on a system that does not say.
        """
        if not STAT.exists():
            return None
        # user, nice, system, idle, waiting for a disk, interrupts of two kinds, and stolen: taken
        # by other virtual machines
        ticks = [int(word) for word in STAT.read_text().split("\n", 1)[0].split()[1:9]]
        busy, tick = sum(ticks) - ticks[3] - ticks[4], os.sysconf("SC_CLK_TCK")
        ours = time.process_time() + sum(map(_ticks_of, self._processes)) / tick
        return busy / tick, ours, time.perf_counter()


def _ticks_of(process: int) -> int:
    """Return the ticks that a process has worked, its own and the system's for it."""
    words = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    return int(words[11]) + int(words[12])
