"""The processor seconds of one run of `distill`, by part: a process of `benchmarks.job`.

It prints one line of JSON: seconds by part, those of child processes included.
"""

import contextlib
import dataclasses
import functools
import importlib
import json
import resource
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tyro

IMPORTS, TRAINING, TEACHER, REST = "imports", "training", "the teacher's predictions", "the rest"
# functions by part, as MODULE:NAME or MODULE:CLASS.NAME, where their callers look them up
PARTS = {
    "kd_keras.recipes.setup:load_task": "reading the data",
    "kd_keras.recipes.setup:check_models": "checking the models",
    "kd_keras.training.trainer:Trainer.fit": TRAINING,
    "kd_keras.recipes.teacher_predictions:stored": TEACHER,
    "kd_keras.recipes.predictions:Predictor.__call__": "prediction",
    "kd_keras.evaluation.quality:evaluate": "intervals",
    "kd_keras.evaluation.paired:difference": "intervals",
    "kd_keras.evaluation.cost:describe": "cost",
    "kd_keras.export:export": "export",
    "kd_keras.report.pages:build": "report",
}


class Parts:
    """Adds up the processor seconds of this process, and of its children once they end, by part.

    Args:
        part: counts what was used so far, and what is used outside of any other part.
    """

    def __init__(self, part: str):
        self.seconds: dict[str, float] = {}
        self._inside, self._last = [part], 0.0

    @contextlib.contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count a block under a part; another part inside it counts for itself."""
        self.add()
        self._inside.append(part)
        try:
            yield
        finally:
            self.add()
            self._inside.pop()

    def add(self) -> None:
        """Count what was used since the last call."""
        used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
        now, part = sum(one.ru_utime + one.ru_stime for one in used), self._inside[-1]
        self.seconds[part] = self.seconds.get(part, 0.0) + now - self._last
        self._last = now

    def watch(self, name: str, part: str) -> None:
        """Count all calls of a function under a part."""
        module, _, path = name.partition(":")
        *classes, last = path.split(".")
        owner: Any = functools.reduce(getattr, classes, importlib.import_module(module))
        setattr(owner, last, self._counted(getattr(owner, last), part))

    def _counted(self, function: Callable, part: str) -> Callable:
        @functools.wraps(function)
        def counted(*args, **kwargs):
            with self.of(part):
                return function(*args, **kwargs)

        return counted


@dataclasses.dataclass(frozen=True)
class Settings:
    """Run `distill` once, and print where its processor time goes.

    Args:
        preset: the preset.
        smoke: take its small settings.
        epochs: the epochs of every model.
    """

    preset: str = "mnist-kd"
    smoke: bool = False
    epochs: int = 2


def main(settings: Settings) -> None:
    from kd_keras.cli import entry

    parts = Parts(IMPORTS)
    entry.import_tensorflow_quietly()
    for name, part in PARTS.items():
        parts.watch(name, part)
    from kd_keras import report
    from kd_keras.recipes import PRESETS, distill

    with parts.of(REST), tempfile.TemporaryDirectory() as folder:
        config = dataclasses.replace(
            PRESETS[settings.preset](settings.smoke),
            epochs=settings.epochs,
            teacher_epochs=settings.epochs,
            out=Path(folder, "run"),
            export=Path(folder, "student"),
        )
        distill.run(config)
        report.build([config.folder], config.folder / "report")
    print(json.dumps(parts.seconds))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.parts", description=__doc__))
