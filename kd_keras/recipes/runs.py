"""A run folder: the resolved config, the machine, a line per epoch, the results.

During a run it also holds `work/`, from which the same command resumes after a kill. The lock in it
keeps a second process out.
"""

import json
import logging
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from kd_keras.config import RunConfig, as_dict
from kd_keras.runtime import machine
from kd_keras.utils import files, records

log = logging.getLogger(__name__)

# settings that say where a run is written, or how fast, but not what it computes
NOT_COMPARED = ("out", "export", "format", "overwrite", "cache_dir", "cache_limit_gb", "track")
LOCK = "lock"
EARLIER = "earlier.json"

# Patterns of all names that the library gives in a run folder. Files with other names are somebody
# else's and are never removed.
OURS = (
    *("config.json", "environment.json", "metrics.jsonl", "results.json", "work"),
    *("predictions.npz", "predictions.csv", "predictions.parquet", "thumbnails", "wandb"),
    *("student.keras", "alone.keras", "teacher.keras", "model.keras"),
    *("peer[0-9].keras", "peer[0-9][0-9].keras"),
    *("trials.csv", "search", "tensorboard", "workers"),
)
# in `report/`, which may also hold somebody else's files
PLOTS = (
    *("curves", "confusion", "reliability", "cost", "sweep", "study", "comparison"),
    *("search", "surface", "parallel", "thresholds"),
)
REPORT = (
    "index.html",
    *(f"{n}{plot}.png" for n in ("", "[0-9]-", "[0-9][0-9]-") for plot in PLOTS),
)

# in `explain/`, likewise
EXPLAIN = ("index.html", "panel.png", "images.csv", "explain.json")

LINE = {"seed": int, "model": str, "epoch": int}
RESULTS = {"models": {str: {"seeds": [dict]}}}

Extends = Callable[[dict[str, Any], dict[str, Any]], bool]


class Journal:
    """The record of trainings: a line per epoch, and what is needed to resume after a kill.

    Args:
        path: the folder that holds `metrics.jsonl`.
        work: the folder for what is needed to resume.
    """

    def __init__(self, path: Path, work: Path):
        self.path, self.work = path, work
        self._metrics = path / "metrics.jsonl"

    def epoch(self, line: dict[str, Any]) -> None:
        """Append one epoch's numbers to `metrics.jsonl`."""
        with files.naming(self._metrics), self._metrics.open("a") as file:
            file.write(json.dumps(line) + "\n")

    def sync(self) -> None:
        """Force the lines to disk."""
        if self._metrics.exists():
            with self._metrics.open("a") as file:
                os.fsync(file.fileno())

    def lines(self) -> list[dict[str, Any]]:
        """Return the complete lines; a kill may have torn the last one.

        Raises:
            DamagedFile: another line is not a line of a training.
        """
        return records.read_lines(self._metrics, LINE)

    def holds(self, *, seed: int, model: str, epochs: int) -> bool:
        """Return whether the lines of a training's first `epochs` epochs are there."""
        there = {
            line["epoch"] for line in self.lines() if (line["seed"], line["model"]) == (seed, model)
        }
        return there.issuperset(range(1, epochs + 1))

    def mend(self) -> None:
        """Set a damaged `metrics.jsonl` aside, and keep its sound lines."""
        try:
            self.lines()
        except records.DamagedFile as error:
            sound = []
            for line in self._metrics.read_bytes().split(b"\n")[:-1]:
                try:
                    sound.append(records.parse(self._metrics, line, LINE))
                except records.DamagedFile:
                    continue  # the first of them is reported below
            then = f"Its {len(sound)} intact lines are kept; the rest is trained again."
            records.set_aside(self._metrics, error, then)
            self._write(sound)

    def _write(self, lines: list[dict[str, Any]]) -> None:
        with files.whole_file(self._metrics) as temporary:
            temporary.write_text("".join(json.dumps(line) + "\n" for line in lines))

    def forget_epochs(self, *, seed: int, model: str, after: int) -> None:
        """Drop the lines of epochs that are about to be run again."""
        if self._metrics.exists():
            self._write(
                [
                    line
                    for line in self.lines()
                    if (line["seed"], line["model"]) != (seed, model) or line["epoch"] <= after
                ]
            )


class RunFolder(Journal):
    """The folder of a run: new, interrupted, or finished.

    It is locked until `finish`, or until the end of a `with` block.

    Args:
        config: a config that names a `folder`, and says whether to `overwrite`.
        digests: those of the data and files that the config only names, see `setup.digests`.
        extends: `extends(before, now)` returns whether a run of other settings is the beginning of
            this one, which then resumes from it, even if it was finished. By default none is.

    Attributes:
        path: the folder.
        work: the folder for what is needed to resume.
        results: the results if the same run was finished before; None if there is something to
            train.
        earlier: the results of the finished run that this one extends, until it is finished
            itself; None if there was none.

    Raises:
        FileExistsError: the folder holds something else, or a run of other settings, data or
            files, and `overwrite` is not set.
        DamagedFile: `config.json` or `results.json` is not what was written, and `overwrite` is not
            set.
        BlockingIOError: another process has a run in the folder.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from kd_keras.config import TrainConfig
        >>> with RunFolder(TrainConfig(out=Path(tempfile.mkdtemp()) / "run")) as folder:
        ...     folder.results is None
        True
    """

    def __init__(
        self,
        config: RunConfig,
        digests: dict[str, str] | None = None,
        extends: Extends = lambda before, now: False,
    ):
        super().__init__(config.folder, config.folder / "work")
        self._results = self.path / "results.json"
        self.results: Any = None
        self.earlier: dict[str, Any] | None = None
        self._refuse_foreign()
        self._lock = self._locked()
        try:
            self._open(config, _settings(config, digests or {}), extends)
        except BaseException:
            self._let_go()
            raise

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, *raised) -> None:
        self._let_go()

    def _open(self, config: RunConfig, settings: dict, extends: Extends) -> None:
        overwrite, before = config.overwrite, self._before(config)
        changed = [] if before is None else _changed(before, settings)
        goes_on = bool(changed) and not overwrite and extends(before or {}, settings)
        if changed and not (overwrite or goes_on):
            raise FileExistsError(
                f"{self.path} holds a run with other settings ({', '.join(changed)}). Choose "
                "another folder with --out, or replace it with --overwrite."
            )
        if self._results.exists() and not (changed or overwrite):
            self.results = _read(self._results, RESULTS)
            log.info("The run in %s is finished; --overwrite runs it again.", self.path)
            return
        if goes_on:
            log.info("The run in %s resumes with other %s.", self.path, ", ".join(changed))
            if self._results.exists():  # else, with the new settings, it would seem finished
                self._results.replace(self.work / EARLIER)
        elif changed or self._results.exists():
            log.info("Replacing the run in %s.", self.path)
            self._replace()
        files.write_json(self.path / "config.json", settings)  # first: it makes this a run folder
        files.write_json(self.path / "environment.json", machine.describe())
        if (self.work / EARLIER).exists():
            self.earlier = _read(self.work / EARLIER, RESULTS)

    def _before(self, config: RunConfig) -> dict[str, Any] | None:
        """Return the settings of the existing run, `{}` for a damaged one that is replaced."""
        known = self.path / "config.json"
        if not known.exists():
            return None
        try:
            return _settings_of(known, config)
        except records.DamagedFile:
            if not config.overwrite:
                raise
            return {}

    def _refuse_foreign(self) -> None:
        """Refuse a folder that is not a run's, before anything is written into it."""
        known = self.path / "config.json"
        if known.exists() or not self.path.exists():
            return
        if not all(_begun(entry) for entry in self.path.iterdir()):
            raise FileExistsError(
                f"{self.path} exists and is not a run folder. Choose another one with --out."
            )

    def _locked(self) -> FileLock:
        self.work.mkdir(parents=True, exist_ok=True)
        lock = FileLock(self.work / LOCK)
        try:
            lock.acquire(timeout=0)
        except Timeout as error:
            raise BlockingIOError(
                f"Another process has a run in {self.path}. Wait until it ends, or choose another "
                "folder with --out."
            ) from error
        return lock

    def _replace(self) -> None:
        """Remove the existing run, and nothing else.

        Its results go first, and its settings stay until new ones are written: a kill leaves an
        unfinished run, never a folder that cannot be recognised.
        """
        files.discard([self._results])
        names = [path for path in self.path.iterdir() if files.is_ours(path.name, OURS)]
        stay = (self._results.name, "config.json", self.work.name)
        files.discard(path for path in names if path.name not in stay)
        files.discard(path for path in self.work.iterdir() if path.name != LOCK)
        for name, ours in (("report", REPORT), ("explain", EXPLAIN)):
            pages = self.path / name
            if not pages.is_dir():
                continue
            files.discard(p for p in pages.iterdir() if files.is_ours(p.name, ours))
            if not any(pages.iterdir()):
                pages.rmdir()

    def finish(self, results: Mapping[str, Any]) -> None:
        """Write `results.json`, remove the working files and release the lock."""
        files.write_json(self._results, results)
        self._let_go()

    def _let_go(self) -> None:
        """Release the lock; remove the working files of a finished run, even after a kill."""
        if not self._lock.is_locked:
            return
        if self._results.exists():
            shutil.rmtree(self.work)
            files.clear(self.path)  # of writes that a kill cut short
        self._lock.release()


def joined(config: RunConfig, digests: dict[str, str]) -> Journal:
    """Return the journal of a run that another process has under way, and keeps locked.

    Args:
        config, digests: those of the run, as `RunFolder` takes them.

    Raises:
        FileNotFoundError: no run is there.
        ValueError: the run has other settings, data or files.
    """
    path = config.folder
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"No run is under way in {path.absolute()}. Its folder must be visible from this "
            "machine, under the same path or the one given by --out."
        )
    before = _settings_of(path / "config.json", config)
    changed = _changed(before, _settings(config, digests))
    if changed:
        raise ValueError(
            f"{path} holds a run with other settings ({', '.join(changed)}). To join it, use the "
            "settings it was started with."
        )
    return Journal(path, path / "work")


def _settings(config: RunConfig, digests: dict[str, str]) -> dict[str, Any]:
    """Return the settings that define a run, as JSON stores them."""
    named = {f"digest of {name}": digest for name, digest in digests.items()}
    return json.loads(json.dumps({**as_dict(config), "kind": type(config).__name__, **named}))


def _settings_of(path: Path, config: RunConfig) -> dict[str, Any]:
    """Read the settings of an existing run.

    Those that it lacks, since it is of an earlier version, are the defaults: the default of a new
    setting is what was done before.

    Args:
        path: its `config.json`.
        config: the config of the run that is to begin or to resume.
    """
    return {**json.loads(json.dumps(as_dict(type(config)()))), **_read(path)}


def _changed(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """Return the names of the settings in which two runs differ."""
    names = sorted({*before, *now} - set(NOT_COMPARED))
    return [name for name in names if _given(before.get(name)) != _given(now.get(name))]


def _given(value: Any) -> Any:
    """Return a setting, or None for an empty list: earlier versions had no such setting."""
    return None if value == [] else value


def _read(path: Path, shape: Any = dict) -> dict[str, Any]:
    """Read a JSON file of a run."""
    return records.read_json(
        path, shape, "Restore it, choose another folder with --out, or run again with --overwrite."
    )


def _begun(entry: Path) -> bool:
    """Return whether a folder with this entry may still be a run's.

    A kill before the first file leaves `work/` with no more than the lock. Hidden entries, such as
    `.git` or `.DS_Store`, are not touched.
    """
    if entry.name == "work" and entry.is_dir():
        return all(left.name == LOCK for left in entry.iterdir())
    return entry.name.startswith(".")
