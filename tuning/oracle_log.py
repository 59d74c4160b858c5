"""The log of all calls that changed a search's oracle, so that they can be repeated."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

from kd_keras.utils import records
from kd_keras.utils.files import naming

TUNER = {"tuner": str, "trial": (str, None)}
SHAPE = (
    {"call": str, **TUNER, "values": (dict, None)},
    {"call": str, "trial": str, "status": str, "scores": [float], "message": (str, None)},
    {"call": str, **TUNER, "why": str},
)


class Calls:
    """The calls that have changed an oracle, in order, one per line.

    A call is on disk before its answer is sent. Repeated on a new oracle, the calls lead to the
    same state. KerasTuner's own `oracle.json` does not: it loses the position in a grid and the
    points that a Gaussian process drew, and a kill may leave it half written.

    Args:
        path: the path of the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """Return the complete calls. A kill may have cut off the last, which was never answered.

        If a call is damaged, it and all later ones are dropped: the file is kept under another
        name, and the search resumes from the calls before.
        """
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        os.truncate(self._path, sum(map(len, whole)))
        calls: list[dict[str, Any]] = []
        for line in whole:
            try:
                calls.append(records.parse(self._path, line, SHAPE))
            except records.DamagedFile as error:
                copy = self._path.with_name(f".{self._path.name}")
                shutil.copyfile(self._path, copy)
                records.set_aside(self._path, error, f"Its first {len(calls)} calls are repeated.")
                copy.rename(self._path)
                self.keep(len(calls))
                break
        return calls

    def keep(self, count: int) -> None:
        """Drop all but the first `count` calls."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        os.truncate(self._path, sum(map(len, lines[:count])))

    def write(self, **call: Any) -> None:
        """Append a call."""
        with naming(self._path), self._path.open("a") as file:
            file.write(json.dumps(call) + "\n")
            file.flush()
            os.fsync(file.fileno())
