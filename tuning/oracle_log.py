"""What a search's oracle was asked, and what it was told: kept so that it can be told again."""

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
    """Calls that have changed an oracle, in their order: a line each, on disk before the answer.

    An oracle that hears them again, as new, says and knows what it did. KerasTuner's own
    `oracle.json` does not: of a grid it forgets where it was, of a Gaussian process which points
    it drew, and a kill may leave it half written.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path):
        self._path = path

    def read(self) -> list[dict[str, Any]]:
        """Those that are whole. A kill may have torn the last, which nobody was answered.

        From one that is damaged on, all are forgotten: the file is kept under another name, and
        the search goes on from there.
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
        """Forget all but the first so many."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        os.truncate(self._path, sum(map(len, lines[:count])))

    def write(self, **call: Any) -> None:
        """Append one."""
        with naming(self._path), self._path.open("a") as file:
            file.write(json.dumps(call) + "\n")
            file.flush()
            os.fsync(file.fileno())
