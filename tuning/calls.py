"""What a search's oracle was asked, and what it was told: kept so that it can be told again."""

import json
import os
from pathlib import Path
from typing import Any


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
        """Those that are whole. A kill may have torn the last, which nobody was answered."""
        if not self._path.exists():
            return []
        lines = self._path.read_bytes().splitlines(keepends=True)
        whole = [line for line in lines if line.endswith(b"\n")]
        os.truncate(self._path, sum(map(len, whole)))
        return [json.loads(line) for line in whole]

    def keep(self, count: int) -> None:
        """Forget all but the first so many."""
        lines = self._path.read_bytes().splitlines(keepends=True)
        os.truncate(self._path, sum(map(len, lines[:count])))

    def write(self, **call: Any) -> None:
        """Append one."""
        with self._path.open("a") as file:
            file.write(json.dumps(call) + "\n")
            file.flush()
            os.fsync(file.fileno())
