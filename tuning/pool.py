"""The workers on the chief's own machine: started, restarted when they die, ended with it."""

import contextlib
import logging
import os
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from tuning.chief import Chief
from tuning.place import LIFELINE, LOCAL, Place

log = logging.getLogger("kd_keras.tuning")

STILLBORN = 3  # deaths in a row without a trial, after which a worker is given up
FAREWELL = 20.0  # seconds for a worker to hear that the search is over


class Local:
    """A local worker: one process at a time, under one name.

    Args:
        tuner: its name.
        command: its command.
        place: the chief's place.
        file: its log file.
    """

    def __init__(self, tuner: str, command: Sequence[str], place: Place, file: Path):
        self.tuner, self.file = tuner, file
        self._command, self._variables = command, place.variables(tuner)
        self.stillborn, self._handed = 0, 0
        self._process: subprocess.Popen | None = None
        self._log: IO[bytes] | None = None

    def start(self) -> None:
        """Start the process. Ctrl-C reaches only the chief, and the process ends with the chief."""
        self._log = self._log or self.file.open("ab")
        self._process = subprocess.Popen(
            self._command,
            env={**os.environ, **self._variables, LIFELINE: "1"},
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=self._log,
            start_new_session=True,
        )
        log.info("%s: process %d, log in %s", self.tuner, self._process.pid, self.file)

    def tend(self, chief: Chief) -> None:
        """If the process has ended, have its trial tried again, and start a new one."""
        if self._process is None or self._process.poll() is None or chief.over:
            return
        why = f"its process {self._process.pid} has ended {_how(self._process.returncode)}."
        handed = chief.handed.get(self.tuner, 0)
        self.stillborn = self.stillborn + 1 if handed == self._handed else 0
        self._handed = handed
        log.warning("%s: %s", self.tuner, why)
        chief.lost(self.tuner, why)
        self._close()
        if self.stillborn < STILLBORN:
            self.start()

    @property
    def given_up(self) -> bool:
        return self._process is None

    def end(self, patience: float) -> None:
        """End the process; after the search it ends by itself within `patience` seconds."""
        if self._process is None:
            return
        if patience:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._process.wait(patience)
        self._process.kill()  # safe: its files appear whole
        self._process.wait()
        self._close()

    def _close(self) -> None:
        if self._process is not None and self._process.stdin is not None:
            self._process.stdin.close()
        if self._log is not None:
            self._log.close()
        self._process = self._log = None

    def last_words(self, lines: int = 20) -> str:
        """Return the last lines of the log."""
        return "\n".join(self.file.read_text(errors="replace").splitlines()[-lines:])


class WorkerPool:
    """The workers that a chief starts. Leaving its `with` block ends them.

    Args:
        count: the number of workers.
        command: the command that each runs.
        place: the chief's place.
        logs: the folder of their log files.
    """

    def __init__(self, count: int, command: Sequence[str], place: Place, logs: Path):
        names = [f"{LOCAL}{number}" for number in range(1, count + 1)]
        self._workers = [Local(name, command, place, logs / f"{name}.log") for name in names]
        logs.mkdir(exist_ok=True)

    def __enter__(self) -> "WorkerPool":
        for worker in self._workers:
            worker.start()
        return self

    def __exit__(self, kind, *raised) -> None:
        for worker in self._workers:
            worker.end(FAREWELL if kind is None else 0.0)

    def tend(self, chief: Chief) -> None:
        """Restart the workers that have ended.

        Raises:
            RuntimeError: no worker is left, here or elsewhere.
        """
        for worker in self._workers:
            worker.tend(chief)
        if self._workers and all(worker.given_up for worker in self._workers) and chief.alone():
            last = self._workers[-1]
            raise RuntimeError(
                f"No worker is left: each ended {STILLBORN} times before it got a trial. The last "
                f"lines of {last.file}:\n{last.last_words()}"
            )


def _how(code: int) -> str:
    return f"by {signal.Signals(-code).name}" if code < 0 else f"with code {code}"
