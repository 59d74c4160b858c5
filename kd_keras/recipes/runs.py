"""A run folder: the resolved config, the machine, a line an epoch, the results.

While a run is under way it also holds `work/`, from which the same command goes on after a kill.
"""

import json
import logging
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kd_keras import machine
from kd_keras.config import as_dict
from kd_keras.files import whole_file, write_json

log = logging.getLogger(__name__)

# settings that say where a run is written, or how fast, but not what it computes
NOT_COMPARED = ("out", "export", "overwrite")


class RunFolder:
    """Opens the folder of a run, new or interrupted.

    Args:
        config: a `TrainConfig` or `DistillConfig`.
        digests: of the data and files that the config only names, see `setup.digests`.

    Raises:
        FileExistsError: the folder holds a run of other settings, data or files, and `overwrite`
            is not set.
    """

    def __init__(self, config: Any, digests: dict[str, str] | None = None):
        self.path: Path = config.folder
        named = {f"digest of {name}": digest for name, digest in (digests or {}).items()}
        settings = {**as_dict(config), "kind": type(config).__name__, **named}
        self._refuse_other(settings, overwrite=config.overwrite)
        if (self.path / "results.json").exists():  # finished before: the same run anew
            _remove(self.path)
        self.work = self.path / "work"
        self._metrics = self.path / "metrics.jsonl"
        write_json(self.path / "config.json", settings)  # first: it makes this a run folder
        self.work.mkdir(exist_ok=True)
        write_json(self.path / "environment.json", machine.describe())

    def _refuse_other(self, settings: dict, *, overwrite: bool) -> None:
        known = self.path / "config.json"
        if not self.path.exists() or all(_temporary(known, entry) for entry in self.path.iterdir()):
            return
        if not known.exists():
            raise FileExistsError(
                f"{self.path} exists and is not a run folder. Choose another one with --out."
            )
        before = json.loads(known.read_text())
        plain = json.loads(json.dumps(settings))
        changed = [
            key
            for key in sorted({*before, *plain} - set(NOT_COMPARED))
            if before.get(key) != plain.get(key)
        ]
        if not changed:
            return
        if not overwrite:
            raise FileExistsError(
                f"{self.path} holds a run of other settings ({', '.join(changed)}). "
                "Choose another folder with --out, or replace it with --overwrite."
            )
        log.info("Replacing the run in %s.", self.path)
        _remove(self.path)

    def epoch(self, line: dict[str, Any]) -> None:
        """Append one epoch's numbers to `metrics.jsonl`."""
        with self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def forget_epochs(self, *, seed: int, model: str, after: int) -> None:
        """Drop the lines of epochs that are about to be run again."""
        if not self._metrics.exists():
            return
        kept = []
        for line in self._metrics.read_text().splitlines(keepends=True):
            if not line.endswith("\n"):
                continue  # torn by the kill
            entry = json.loads(line)
            again = (entry["seed"], entry["model"]) == (seed, model) and entry["epoch"] > after
            if not again:
                kept.append(line)
        with whole_file(self._metrics) as temporary:
            temporary.write_text("".join(kept))

    def finish(self, results: dict[str, Any]) -> None:
        """Write `results.json` and clear the working files."""
        write_json(self.path / "results.json", results)
        shutil.rmtree(self.work)
        for left in self.path.glob(".*"):  # of writings that a kill cut short
            shutil.rmtree(left)


def _temporary(path: Path, entry: Path) -> bool:
    """Whether `entry` is what a kill leaves of `whole_file(path)`."""
    return entry.name.startswith(f".{path.name}.")


def _remove(folder: Path) -> None:
    """Remove a run under another name, so that a kill leaves no half of it under its own."""
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}.", dir=folder.parent))
    folder.rename(aside / folder.name)
    shutil.rmtree(aside)
