"""A search of twenty trials on MNIST, against its trainings alone and against plain KerasTuner.

All sides train the same settings, drawn by the same oracle. The second side is the code of a user
who knows the settings already: one Distiller, restarted. The third side is KerasTuner over
`keras.distillation`, as their documentations show it: a HyperModel that builds a distiller.
"""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import keras_tuner
import tyro
from keras.distillation import LogitsDistillation

import kd_keras as kd
from benchmarks import plots, results, timing
from benchmarks.workloads import PAIRS, Pair, cross_entropy
from kd_keras.data.task import Split, Task
from kd_keras.recipes.progress import Progress
from tuning import oracles
from tuning import space as spaces
from tuning.config import TuneConfig
from tuning.hypermodel import DistillationModel
from tuning.trials import Trainer, Trials
from tuning.tuner import Tuner

SEARCH, ALONE = "kd_keras, the search", "kd_keras, its trainings alone"
THEIRS = "KerasTuner and keras.distillation"
METRIC = "accuracy"
OVERHEAD = 1.1


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time a random search for temperature, alpha and learning rate, in turn.

    Args:
        examples: training images; a ninth as many more are evaluated after each epoch.
        epochs: epochs per trial.
        trials: number of settings, one student each.
    """

    examples: int = 18_000
    epochs: int = 4
    trials: int = 20


def task_of(pair: Pair, settings: Settings) -> Task:
    """Return a task of random images; its test split is not used."""
    count = 3 * pair.batch_size if settings.quick else settings.examples
    x, y = pair.data(examples=count + count // 9)
    train = Split(y[:count], pair.shape, x[:count])
    rest = Split(y[count:], pair.shape, x[count:])
    names = tuple(map(str, range(pair.classes)))
    return Task("drawn", train, rest, rest, names, METRIC, fingerprint="drawn")


def ours(pair: Pair, task: Task, config: TuneConfig, drawn: Sequence[Mapping[str, Any]]) -> None:
    """Run the search of `kd-keras tune`, from its teacher to its last trial."""
    teacher = pair.build_teacher()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        config = dataclasses.replace(config, cache_dir=folder / "answers")
        oracle = oracles.make(config, METRIC)
        trainer = Trainer(config, task, teacher, Progress(show=False))
        trials = Trials(folder, folder / "work")
        model = DistillationModel(config, task, teacher)
        Tuner(oracle, model, trainer, trials, config, METRIC).search()
        check(oracle, drawn)
        (_,) = (folder / "answers").glob("[!.]*/")  # the teacher was run once


def alone(pair: Pair, task: Task, config: TuneConfig, drawn: Sequence[Mapping[str, Any]]) -> None:
    """Train the same settings, written by hand."""
    distiller = kd.Distiller(student=pair.build_student(), teacher=pair.build_teacher())
    distiller.compile(optimizer=keras.optimizers.Adam(), metrics=["accuracy"])
    for values in drawn:
        method = kd.methods.KD(values["temperature"])
        distiller.reset(like=pair.build_student(), method=method)
        distiller.alpha = values["alpha"]
        distiller.optimizer.learning_rate = values["learning_rate"]
        fit(distiller, task, config)


def theirs(pair: Pair, task: Task, config: TuneConfig, drawn: Sequence[Mapping[str, Any]]) -> None:
    """Run the same search in KerasTuner's own tuner."""
    teacher = pair.build_teacher()

    def build(hp):
        found = spaces.kd(hp)
        distiller = keras.distillation.Distiller(
            teacher,
            pair.build_student(),
            distillation_losses=LogitsDistillation(temperature=found["temperature"]),
            student_loss_weight=found["alpha"],
        )
        optimizer = keras.optimizers.Adam(found["learning_rate"])
        distiller.compile(optimizer=optimizer, loss=cross_entropy(), metrics=["accuracy"])
        return distiller

    with tempfile.TemporaryDirectory() as folder:
        tuner = keras_tuner.RandomSearch(
            build,
            objective=oracles.objective(METRIC),
            max_trials=config.trials,
            seed=config.seed + 1,
            directory=folder,
        )
        tuner.oracle.verbose = 0
        fit(tuner, task, config)
        check(tuner.oracle, drawn)


def fit(model: Any, task: Task, config: TuneConfig) -> None:
    """Call `fit` of a model, or `search` of a tuner, which takes the same arguments."""
    run = model.search if isinstance(model, keras_tuner.Tuner) else model.fit
    run(
        task.train.images,
        task.train.labels,
        validation_data=(task.validation.images, task.validation.labels),
        batch_size=config.batch_size,
        epochs=config.epochs,
        verbose=0,
    )


def proposed(config: TuneConfig) -> list[dict[str, Any]]:
    """Return the settings that the oracle of both searches will draw."""
    oracle, hp = oracles.make(config, METRIC), keras_tuner.HyperParameters()
    spaces.kd(hp)
    oracle.update_space(hp)
    return [oracle.populate_space(str(number))["values"] for number in range(config.trials or 0)]


def check(oracle: keras_tuner.Oracle, drawn: Sequence[Mapping[str, Any]]) -> None:
    """Raise `RuntimeError` if a trial failed, or had another setting."""
    trials = [trial for _, trial in sorted(oracle.trials.items())]
    if [trial.hyperparameters.values for trial in trials] != list(drawn):
        raise RuntimeError("A search has tried other settings than were drawn.")
    if any(trial.status != "COMPLETED" for trial in trials):
        raise RuntimeError(f"A trial failed: {[trial.message for trial in trials]}")


def measure(settings: Settings) -> results.Case:
    pair, trials = PAIRS["mnist"], 3 if settings.quick else settings.trials
    task = task_of(pair, settings)
    config = TuneConfig(
        teacher=pair.teacher,
        student=pair.student,
        trials=trials,
        epochs=settings.epochs,
        batch_size=pair.batch_size,
    )
    drawn = proposed(config)

    def side(search) -> timing.Side:
        return lambda: [timing.once(lambda: search(pair, task, config, drawn))]

    sides = {SEARCH: side(ours), ALONE: side(alone), THEIRS: side(theirs)}
    times = timing.in_turn(sides, settings.rounds_or(2))
    title = f"{trials} trials by {settings.epochs} epochs, {pair.title}, {len(task.train):,} images"
    about = {**pair.settings(len(task.train)), "epochs": settings.epochs, "trials": drawn}
    case = results.Case("tuning", title, "s", times, settings=about)
    case.ratio(SEARCH, ALONE, "search / its trainings alone", **results.at_most(OVERHEAD))
    case.ratio(THEIRS, SEARCH, "KerasTuner and keras.distillation / kd_keras")
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("tuning", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.tuning", description=__doc__))
