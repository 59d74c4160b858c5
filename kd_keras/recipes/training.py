"""One training of one model: its phases, its best epoch, and how it resumes after a kill."""

import dataclasses
import functools
import gc
import math
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kd_keras.config import BudgetConfig, RunConfig
from kd_keras.data import labels, pipeline
from kd_keras.data.task import Split, Task, balanced_class_weight
from kd_keras.evaluation import quality
from kd_keras.recipes import optimizers
from kd_keras.recipes.callbacks import (
    Best,
    Checkpoint,
    EarlyStop,
    Interruptible,
    Last,
    OnAverages,
    Validation,
)
from kd_keras.recipes.phases import Phase, phases
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import Journal
from kd_keras.recipes.saving import save_weights
from kd_keras.training.checking import Pipeline
from kd_keras.training.divergence import DivergenceWatch
from kd_keras.utils import interrupts, records
from kd_keras.utils.files import fingerprint

WEIGHTS, OUTCOME = "best.weights.h5", "outcome.json"
ALL_WEIGHTS = "all.weights.h5"  # if peers learned together
SHAPE = {"epochs": int, "best_epoch": int, "score": float, "seconds": float, "digests": dict}
ANEW = "This training starts again."
RELEASED_BYTES = 16 * 2**20  # of images


@dataclasses.dataclass(frozen=True)
class Outcome:
    """The outcome of a training.

    `score` is the task's metric on validation at the best epoch; NaN if there was no validation and
    the last epoch was stored.
    """

    epochs: int
    best_epoch: int
    score: float
    seconds: float

    @property
    def rank(self) -> float:
        """The score, by which the best training is chosen; without one all are equally good."""
        return -math.inf if math.isnan(self.score) else self.score

    def text(self, metric: str) -> str:
        """Return the outcome as text for the log."""
        return (
            f"validation {metric} {self.score:.4f} at epoch {self.best_epoch} of {self.epochs}, "
            f"{self.seconds:.1f} s"
        )


@dataclasses.dataclass(frozen=True)
class Learner:
    """A model to train, and how to train it.

    Attributes:
        role: `"teacher"`, `"alone"`, `"distilled"`, ...: names it in logs and files.
        seed: the seed of the order of the examples, and of dropout.
        model: the model that is evaluated, and whose weights the training stores.
        student: the model whose layers a phase freezes, like those of the `peers`.
        ready: called before each phase, after its layers were frozen or not, with the phase's name,
            a function that makes an optimizer for weights, and options of `compile`; returns the
            trainer to `fit`, compiled and with its optimizer as new.
        join: returns the endless dataset to train on from an epoch on, such as the pipeline's
            batches with the teacher's predictions; called in each phase, after `ready`.
        views: the number of views per image, taken in turn; None draws new ones every epoch.
        augmentation: the augmentation of the images; None takes the budget's.
        augmentation_seed: the seed of the augmentation; None takes the learner's own.
        predict: runs the model over a split; None makes a new predictor.
        keep: the epoch whose weights are left in the model: the `"best"` on validation, or the
            `"last"`.
        full_model: the model in which these weights are left. If several models learn together, it
            holds all of them, including `model`; None takes `model` itself.
        peers: the models that learn at the same time.
    """

    role: str
    seed: int
    model: keras.Model
    student: keras.Model
    ready: Callable[..., keras.Model]
    join: Callable[[pipeline.Epochs, int], Any] = lambda epochs, first: epochs.endless(first)
    views: int | None = None
    augmentation: str | None = None
    augmentation_seed: int | None = None
    predict: Predictor | None = None
    keep: str = "best"
    full_model: keras.Model | None = None
    peers: Sequence[keras.Model] = ()

    @property
    def left(self) -> keras.Model:
        """The model in which the training leaves the weights of one epoch."""
        return self.model if self.full_model is None else self.full_model


def length(budget: BudgetConfig, epochs: int | None) -> int:
    """Return the number of all epochs of a training, those of the head included.

    Args:
        budget: the run's budget.
        epochs: the epochs after those of the head; None takes the budget's, and with 0 nothing is
            trained.
    """
    if epochs == 0:
        return 0
    return budget.head_epochs + (epochs or budget.epochs)


def train(
    learner: Learner,
    task: Task,
    budget: RunConfig,
    run: Journal,
    *,
    epochs: int | None = None,
    of: int | None = None,
    progress: Sequence[keras.callbacks.Callback] = (),
    judged: bool = True,
    to_go_on: bool = False,
) -> Outcome:
    """Train to the end and leave the best epoch's weights (or the last's) in `learner.model`.

    The end is that of the last epoch, or the one at which `budget.early_stopping` ends it, if
    validation chooses the epoch.

    An interrupted training of the same settings resumes where it stopped; a finished one is not
    repeated.

    Args:
        learner: the model to train.
        task: the task to learn.
        budget: the epochs, the optimizer, the learning rates and the loss on the labels.
        run: the journal of the run.
        epochs: the epochs after those of the head; the budget's if not given. With 0 the model is
            evaluated as it is.
        of: the epochs that the learning rate is scheduled over, if they are more than `epochs`.
        progress: callbacks that show the progress.
        judged: whether validation chooses the epoch; otherwise the last one is stored.
        to_go_on: leave a checkpoint of the last epoch, from which a longer training of the same
            settings resumes, and ends as if it had never stopped.

    Raises:
        Diverged: the loss became NaN or infinite; the model holds the best epoch before.
    """
    folder = folder_of(run, learner.role, learner.seed)
    before = finished(run, learner.role, learner.seed)
    if before is not None:
        with records.reading(folder / _file(learner)):
            learner.left.load_weights(folder / _file(learner))
        return before
    interrupts.check()
    if epochs == 0:
        return _as_it_is(learner, task, folder)
    keras.utils.set_random_seed(learner.seed)
    best, plan = Best(), phases(budget, epochs or budget.epochs, of)
    checkpoint = _checkpoint(learner, run, best)
    checkpoint.at_end = to_go_on
    run.forget_epochs(seed=learner.seed, model=learner.role, after=checkpoint.epochs)
    judge = _judge(learner, task, best, run, judged=judged)
    stop = EarlyStop(learner.role, best, budget.early_stopping, plan[-1].first_epoch)
    callbacks = [judge if budget.ema is None else OnAverages(judge), stop, checkpoint, *progress]
    try:
        done = _fit(learner, task, budget, plan, checkpoint, stop, callbacks)
    finally:
        if best.weights is not None:
            learner.left.set_weights(best.weights)
            _save(learner, folder)
    _release(task)
    run.sync()
    seconds = round(checkpoint.seconds(), 3)
    return _finish(folder, Outcome(done, best.epoch, best.score, seconds))


def _release(task: Task) -> None:
    """Free the pipelines of earlier trainings, if they are large.

    A pipeline may hold a copy of all images. Its graphs refer to each other in cycles, and Python
    collects these so rarely that fifty trainings on MNIST kept two gigabytes.
    """
    if task.train.images is not None and task.train.images.nbytes > RELEASED_BYTES:
        gc.collect()


def _file(learner: Learner) -> str:
    """Return the name of the file with all weights that a training left."""
    return WEIGHTS if learner.left is learner.model else ALL_WEIGHTS


def _as_it_is(learner: Learner, task: Task, folder: Path) -> Outcome:
    """Evaluate a model that was made of trained ones; return the outcome of no training."""
    predict = learner.predict or Predictor(learner.model)
    score = quality.score(task.metric, predict(task.validation), task.validation.labels)
    folder.mkdir(parents=True, exist_ok=True)
    _save(learner, folder)
    return _finish(folder, Outcome(0, 0, score, 0.0))


def _save(learner: Learner, folder: Path) -> None:
    """Write the weights that a training leaves."""
    for name, model in {WEIGHTS: learner.model, _file(learner): learner.left}.items():
        save_weights(model, folder / name)


def _finish(folder: Path, outcome: Outcome) -> Outcome:
    names = [name for name in (WEIGHTS, ALL_WEIGHTS) if (folder / name).exists()]
    digests = {name: records.digest_of(folder / name) for name in names}
    records.write_signed(folder / OUTCOME, {**dataclasses.asdict(outcome), "digests": digests})
    return outcome


def _checkpoint(learner: Learner, run: Journal, best: Best) -> Checkpoint:
    """Return a training's last checkpoint; a new one if that or its epochs' lines are damaged."""
    folder = folder_of(run, learner.role, learner.seed)
    make = functools.partial(Checkpoint, folder, best, sync=run.sync)
    try:
        found = make()
    except records.DamagedFile as error:
        records.set_aside(folder, error, ANEW)
        return make()
    if not run.holds(seed=learner.seed, model=learner.role, epochs=found.epochs):
        records.set_aside(folder, f"{run.path} is missing lines of {learner.role!r}.", ANEW)
        return make()
    return found


def folder_of(run: Journal, role: str, seed: int) -> Path:
    """Return the folder for what a training needs to resume, and for its best weights."""
    name = re.sub(r"[^\w.=,+-]", "-", role)[:100]  # a role may name the path of a layer or a file
    name = name if name == role else f"{name}-{fingerprint(role)}"
    return run.work / f"{name}-{seed}"


def finished(run: Journal, role: str, seed: int) -> Outcome | None:
    """Return the outcome of a training that was finished before; None if it was not.

    A training whose files or lines are not what was written is set aside, to begin anew.
    """
    run.mend()
    folder = folder_of(run, role, seed)
    if not (folder / OUTCOME).exists():
        return None
    try:
        kept = records.read_signed(folder / OUTCOME, SHAPE)
        records.check_digests(folder, kept.pop("digests"))
    except records.DamagedFile as error:
        records.set_aside(folder, error, ANEW)
        return None
    if not run.holds(seed=seed, model=role, epochs=kept["epochs"]):
        records.set_aside(folder, f"{run.path} is missing lines of {role!r}.", ANEW)
        return None
    return Outcome(**kept)


def _class_weight(task: Task) -> dict[int, float] | None:
    if not task.train.labelled:  # a transfer set: the classes are unknown
        return None
    return task.class_weight or balanced_class_weight(task.train.labels, task.classes)


def _judge(
    learner: Learner, task: Task, best: Best, run: Journal, *, judged: bool
) -> keras.callbacks.Callback:
    """Return the callback that stores the weights of the best epoch, or of the last."""

    def journal(line):
        run.epoch({"seed": learner.seed, "model": learner.role, **line})

    if not judged:
        return Last(learner.left, best, journal)
    predictor = learner.predict or Predictor(learner.model)

    def predict(split):
        return predictor.repeatedly(split, f"{task.fingerprint}/validation")

    return Validation(
        learner.role,
        learner.left,
        predict,
        task.validation,
        task.metric,
        best,
        journal,
        last=learner.keep == "last",
    )


def _check(split: Split, classes: int) -> None:
    """Raise `ValueError` for labels and weights that nothing can be learned from."""
    if split.labelled:
        labels.as_labels(pipeline.targets(split), classes, "The training split")
    if split.weights is not None:
        labels.as_weights(split.weights, "`weights` of the training split")


def _pipeline(learner: Learner, task: Task, budget: RunConfig) -> pipeline.Epochs:
    """Return the batches of a training."""
    _check(task.train, task.classes)
    return pipeline.Epochs(
        task.train,
        batch_size=budget.batch_size,
        seed=learner.seed,
        augmentation=learner.augmentation or budget.augmentation,
        class_weight=_class_weight(task) if budget.class_weights else None,
        views=learner.views,
        augmentation_seed=learner.augmentation_seed,
        classes=task.classes,
    )


def _fit(
    learner: Learner,
    task: Task,
    budget: RunConfig,
    plan: Sequence[Phase],
    checkpoint: Checkpoint,
    stop: EarlyStop,
    callbacks: Sequence[keras.callbacks.Callback],
) -> int:
    """Train every phase from the last checkpoint on; return the number of epochs that are done.

    Args:
        learner, task, budget, plan: the training.
        checkpoint: the last checkpoint.
        stop: tells whether the training ends before its last epoch.
        callbacks: those of every phase; `checkpoint` and `stop` are among them.
    """
    data, watch = _pipeline(learner, task, budget), DivergenceWatch(learner.role)
    done = checkpoint.epochs
    for phase in plan:
        for student in (learner.student, *learner.peers):
            phase.prepare(student)
        if done > phase.last_epoch:
            continue
        trainer = _ready(learner, budget, phase)
        if done > phase.first_epoch:
            # also at a phase's end, since its optimizer is needed to read the checkpoint
            if not trainer.optimizer.built:
                trainer.optimizer.build(trainer.trainable_variables)
            checkpoint.restore(trainer)
        if done == phase.last_epoch:  # as at the end of `fit`: averaged weights take their place
            trainer.optimizer.finalize_variable_values(trainer.trainable_variables)
        elif not stop.reached(done):
            first = max(done, phase.first_epoch)
            history = trainer.fit(
                Pipeline(learner.join(data, first)),
                initial_epoch=first,
                epochs=phase.last_epoch,
                steps_per_epoch=data.steps,
                callbacks=[*phase.callbacks(), watch, *callbacks, Interruptible()],
                shuffle=False,
                verbose=0,
            )
            done = first + len(history.epoch)
    return done


def _ready(learner: Learner, budget: BudgetConfig, phase: Phase) -> keras.Model:
    """Return the trainer of a phase, compiled."""
    return learner.ready(
        phase.name,
        functools.partial(optimizers.new, budget, phase.rate(phase.first_epoch)),
        loss=optimizers.label_loss(budget),
        steps_per_execution=budget.steps_per_execution,
    )
