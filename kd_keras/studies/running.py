"""Run a study: its parts one after the other, each of which leaves a section in its folder."""

import dataclasses
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from kd_keras.config import (
    CompareConfig,
    DistillConfig,
    RunConfig,
    StudyConfig,
    SweepConfig,
    TrainConfig,
)
from kd_keras.recipes import distill, supervised, sweep
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import Results
from kd_keras.report import study_page
from kd_keras.runtime import machine
from kd_keras.studies import work
from kd_keras.studies.parts import Part, Section, Study
from kd_keras.utils.checks import unknown
from kd_keras.utils.files import whole_file, write_json
from tuning import run as searching
from tuning.config import TuneConfig

log = logging.getLogger(__name__)


def run(study: Study, config: StudyConfig, progress: Progress | None = None) -> Path:
    """Run the parts of a study that the config names, and write its page.

    A run that is finished is not repeated, and one that was interrupted goes on. The page shows the
    parts that were run now or earlier in the same folder.

    Args:
        study: the study.
        config: its settings.
        progress: shows bars; None shows nothing.

    Returns:
        The page.

    Raises:
        ValueError: for a part or a rehearsal that the study does not have, or as the runs do.
        FileNotFoundError: for data that are not there.
    """
    parts = chosen(study, config)
    title = study.title
    if config.rehearsal:
        config, title = rehearsal(study, config), f"{title}: a rehearsal on drawn images"
    folder = config.folder
    planned = {part.name: part.planned(config) for part in parts}
    runs = _Runs(config, planned, progress or Progress(show=False))
    runs.tell()
    for part in parts:
        log.info("part %s: %s", part.name, part.question)
        _write(folder / part.name, part, part.make(config, runs.of(part.name)), config)
    return study_page.build(folder, title, [part.name for part in study.parts])


def chosen(study: Study, config: StudyConfig) -> list[Part]:
    """Return the parts that a config names; all, if it names none.

    Raises:
        ValueError: for a part that the study does not have.
    """
    known = {part.name: part for part in study.parts}
    for name in config.part:
        if name not in known:
            raise ValueError(unknown(f"part of the study {study.name!r}:", name, known))
    return [part for part in study.parts if not config.part or part.name in config.part]


def rehearsal(study: Study, config: StudyConfig) -> StudyConfig:
    """Return the settings of a rehearsal, whose images have been drawn.

    Raises:
        ValueError: for a study without one, or a folder of data.
    """
    if study.rehearse is None:
        raise ValueError(f"The study {study.name!r} has no rehearsal: leave out `rehearsal`.")
    if config.data_dir is not None:
        raise ValueError(
            "`rehearsal` draws its own images: leave out `data_dir`, or `rehearsal`. "
            f"Received: data_dir={str(config.data_dir)!r}"
        )
    return study.rehearse(config)


def perform(config: RunConfig, progress: Progress) -> Results:
    """Make a run of any kind, or return the results of one that is finished."""
    if isinstance(config, TuneConfig):
        return cast(Results, searching.run(config, progress=progress))
    if isinstance(config, SweepConfig | CompareConfig):
        return sweep.run(config, progress)
    if isinstance(config, DistillConfig):
        return distill.run(config, progress)
    if isinstance(config, TrainConfig):
        return supervised.run(config, progress)
    raise TypeError(f"A {type(config).__name__} is no run of a study.")


class _Runs:
    """The runs of a study, in folders of their own, and how long they will take.

    Args:
        study: the settings of the study.
        planned: the configs by run, by part.
        progress: shows the trainings.
    """

    def __init__(
        self, study: StudyConfig, planned: Mapping[str, Mapping[str, RunConfig]], progress: Progress
    ):
        self.study, self._planned, self._progress = study, planned, progress
        self._seconds: dict[str, float] = {}  # by run, those that are not made yet
        self._pace = 1.0  # how much longer the runs took than was estimated
        self._made: dict[str, tuple[RunConfig, Results]] = {}  # by run: several parts read one

    def tell(self) -> None:
        """Log what the study will cost: the time of each part, and of all."""
        waiting = {
            name: config
            for runs in self._planned.values()
            for name, config in runs.items()
            if not (self.study.run_folder(name) / "results.json").exists()
        }
        if not waiting:
            return
        log.info("estimating the time: each model trains for a moment")
        estimator = work.Estimator()
        self._seconds = {name: estimator.seconds(config) for name, config in waiting.items()}
        counted: set[str] = set()
        for part, runs in self._planned.items():
            own = sum(self._seconds.get(name, 0.0) for name in runs if name not in counted)
            counted |= runs.keys()
            log.info("part %s: about %s", part, work.text(own) if own else "no time: it is done")
        log.info("in all about %s of training", work.text(sum(self._seconds.values())))

    def of(self, part: str) -> "_PartRuns":
        """Return the runs of one part."""
        return _PartRuns(self, self._planned[part])

    def make(self, name: str, config: RunConfig) -> Results:
        """Make a run in its folder, and tell what is left; or return one that was made before."""
        if name in self._made and self._made[name][0] == config:
            return self._made[name][1]
        expected = self._seconds.pop(name, None)
        start = time.monotonic()
        results = perform(config, self._progress)
        self._made[name] = config, results
        if expected is not None:
            took = time.monotonic() - start
            self._pace = max(0.2, took / max(expected, 1.0))
            left = self._pace * sum(self._seconds.values())
            also = f", about {work.text(left)} left" if self._seconds else ""
            log.info("run %s: %s%s", name, work.text(took), also)
        return results


@dataclasses.dataclass(frozen=True)
class _PartRuns:
    """The runs of one part: a run is made when it is first called."""

    runs: _Runs
    planned: Mapping[str, RunConfig]

    def __call__(self, name: str, **changes: Any) -> Results:
        folder = self.runs.study.run_folder(name)
        settings: dict[str, Any] = {"out": folder, **changes}
        config = self.planned[name]
        if isinstance(config, DistillConfig):
            settings["export"] = folder / "exported"
        return self.runs.make(name, dataclasses.replace(config, **settings))


def _write(folder: Path, part: Part, section: Section, config: StudyConfig) -> None:
    """Write a section: its tables as CSV and Markdown, its plots, and `section.json` last."""
    folder.mkdir(parents=True, exist_ok=True)
    for table in section.tables:
        _text(folder / f"{table.name}.csv", table.csv())
        _text(folder / f"{table.name}.md", table.markdown() + "\n")
    for plot in section.plots:
        study_page.save(plot.figure, folder / f"{plot.name}.png")
    kept = {
        "title": part.title,
        "question": part.question,
        "reading": section.reading,
        "tables": [dataclasses.asdict(table) for table in section.tables],
        "plots": [{"file": f"{plot.name}.png", "caption": plot.caption} for plot in section.plots],
        "command": command(config, part.name),
        "seeds": config.seeds,
        "machine": machine.sentence(machine.describe()),
    }
    write_json(folder / study_page.SECTION, kept)


def command(config: StudyConfig, part: str) -> str:
    """Return the command that makes a part again, with a placeholder for the folder of the data.

    Example:
        >>> command(StudyConfig(study="mhist", rehearsal=True, seeds=(0, 1)), "votes")
        'kd-keras study mhist --part votes --rehearsal --seeds 0 1'
    """
    words = ["kd-keras study", config.study, "--part", part]
    words += [f"--{name}" for name in ("rehearsal", "smoke") if getattr(config, name)]
    if config.data_dir is not None and not config.rehearsal:
        words += ["--data-dir", "DATA"]
    if config.seeds != StudyConfig(study=config.study).seeds:
        words += ["--seeds", *map(str, config.seeds)]
    return " ".join(words)


def _text(path: Path, text: str) -> None:
    with whole_file(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
