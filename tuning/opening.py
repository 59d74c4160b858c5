"""What a search is made of, opened and checked before anything is trained."""

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
        config: as given.
        task: all that is chosen on it is chosen by the objective.
        space: what is varied, as a function.
        varied: the same, as KerasTuner writes it.
        digests: of data, files and space, see `RunFolder`.
    """

    config: TuneConfig
    task: Task
    space: Space
    varied: list[dict[str, Any]]
    digests: dict[str, str]

    def with_answers(self, work: Path) -> TuneConfig:
        """The config, with the teacher's answers kept on disk: other processes, and the same
        after a kill, open what is computed once."""
        where = self.config.cache_dir or work / "answers"
        return dataclasses.replace(self.config, cache_dir=where)


def opened(config: TuneConfig, space: Space | None = None) -> Opened:
    """Open the data, and check all words.

    Args:
        config: says what is searched.
        space: in place of the config's.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: words, data or a space that are wrong.
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
    """The whole space; each of its branches fits the teacher, which need not have learned yet."""
    teacher = setup.untrained_teacher(dataclasses.replace(config, teacher_weights=None), task)
    return explored(DistillationModel(config, task, teacher, space), task.metric)
