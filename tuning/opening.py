"""The parts of a search, opened and checked before anything is trained."""

import dataclasses
from pathlib import Path
from typing import Any

from kd_keras.data.task import Task
from kd_keras.recipes import setup
from kd_keras.utils.files import fingerprint
from tuning import oracles
from tuning import space as spaces
from tuning.config import TuneConfig
from tuning.hypermodel import DistillationModel, explored
from tuning.space import Space


@dataclasses.dataclass(frozen=True)
class Opened:
    """The parts of a search.

    Attributes:
        config: the config, as given.
        task: the task, whose metric is the objective.
        space: the search space, as a function.
        varied: the same space, as KerasTuner's list of hyper-parameters.
        digests: fingerprints of data, files and space, see `RunFolder`.
    """

    config: TuneConfig
    task: Task
    space: Space
    varied: list[dict[str, Any]]
    digests: dict[str, str]

    def with_answers(self, work: Path) -> TuneConfig:
        """Return the config with the teacher's predictions stored on disk.

        They are computed once; other processes, and a resumed run, open them.
        """
        where = self.config.cache_dir or work / "answers"
        return dataclasses.replace(self.config, cache_dir=where)


def opened(config: TuneConfig, space: Space | None = None) -> Opened:
    """Open the data, and check all names.

    Args:
        config: the config of the search.
        space: replaces the config's space.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: a name, the data or the space is wrong.
    """
    oracles.check(config)
    chosen = space or spaces.find(config.space)
    task = setup.open_task(config)
    if config.objective is not None:
        task = dataclasses.replace(task, metric=config.objective)
    varied = _explored(config, task, chosen)
    text = spaces.written(config, space)
    digests = {**setup.digests(config, task), "space": fingerprint(varied, text)}
    return Opened(config, task, chosen, varied, digests)


def _explored(config: TuneConfig, task: Task, space: Space) -> list[dict[str, Any]]:
    """Return the whole space. Its branches are checked against an untrained teacher."""
    teacher = setup.untrained_teacher(dataclasses.replace(config, teacher_weights=None), task)
    return explored(DistillationModel(config, task, teacher, space), task.metric)
