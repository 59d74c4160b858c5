"""One training of one model: its phases, its best epoch, and how it goes on after a kill."""

import dataclasses
import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import keras

from kd_keras.config import BudgetConfig
from kd_keras.data import pipeline
from kd_keras.data.task import Task, balanced_class_weight
from kd_keras.files import fingerprint, write_json
from kd_keras.models import freezing
from kd_keras.recipes.callbacks import Best, Checkpoint, DivergenceWatch, Last, Validation
from kd_keras.recipes.predict import Predictor
from kd_keras.recipes.runs import Journal

WEIGHTS, OUTCOME = "best.weights.h5", "outcome.json"


@dataclasses.dataclass(frozen=True)
class Phase:
    """A part of a training with weights frozen or not, and a learning rate of its own."""

    name: str
    first_epoch: int
    last_epoch: int
    learning_rate: float
    prepare: Callable[[keras.Model], None]


@dataclasses.dataclass(frozen=True)
class Outcome:
    """How a training went.

    `score` is the task's metric on validation at the best epoch; NaN where there was no validation
    and the last epoch was kept.
    """

    epochs: int
    best_epoch: int
    score: float
    seconds: float

    def text(self, metric: str) -> str:
        """For a line in the log."""
        return (
            f"validation {metric} {self.score:.4f} at epoch {self.best_epoch} of {self.epochs}, "
            f"{self.seconds:.1f} s"
        )


@dataclasses.dataclass(frozen=True)
class Learner:
    """What is trained.

    Attributes:
        role: `"teacher"`, `"alone"`, `"distilled"`, ...: names it in logs and files.
        seed: of the order of the examples, and of dropout.
        model: the model whose weights count.
        student: the model whose layers a phase freezes.
        ready: called before each phase with its name, an optimizer and options of `compile`, when
            the layers are frozen or not; gives what `fit` is called on, compiled and as new.
        join: what of the pipeline is trained on, such as its batches with the teacher's answers;
            asked in each phase, after its weights were frozen or not.
        views: augmented versions of each image, taken in turn; None draws new ones every epoch.
        augmentation_seed: of the augmentation; the learner's own where it is None.
        predict: runs the model over a split; a new one where it is None.
        keep: whose weights are left in the model: those of the `"best"` epoch on validation, or
            of the `"last"`.
    """

    role: str
    seed: int
    model: keras.Model
    student: keras.Model
    ready: Callable[..., keras.Model]
    join: Callable[[pipeline.Epochs], Any] = lambda epochs: epochs.dataset
    views: int | None = None
    augmentation_seed: int | None = None
    predict: Predictor | None = None
    keep: str = "best"


def phases(budget: BudgetConfig, epochs: int) -> list[Phase]:
    """The whole model for `epochs`; in transfer learning, first its head for `head_epochs`."""
    head = budget.head_epochs
    if not head:
        return [Phase("all", 0, epochs, budget.learning_rate, lambda model: None)]
    return [
        Phase("head", 0, head, budget.head_learning_rate, freezing.freeze),
        Phase(
            "fine-tuning",
            head,
            head + epochs,
            budget.learning_rate,
            lambda model: freezing.unfreeze(model, budget.unfreeze_blocks),
        ),
    ]


def train(
    learner: Learner,
    task: Task,
    budget: BudgetConfig,
    run: Journal,
    *,
    epochs: int | None = None,
    progress: Sequence[keras.callbacks.Callback] = (),
    judged: bool = True,
    to_go_on: bool = False,
) -> Outcome:
    """Train to the end and leave the best epoch's weights (or the last's) in `learner.model`.

    Goes on where an interrupted run of the same settings stopped; a training that was finished is
    not repeated.

    Args:
        learner: what is trained.
        task: on what.
        budget: how long and how fast.
        run: where it is written.
        epochs: beside those of the head; the budget's where not given.
        progress: callbacks that show it.
        judged: whether validation chooses the epoch; else the last one is kept.
        to_go_on: leave a checkpoint of the last epoch, from which a longer training of the same
            settings goes on, and ends as if it had never stopped.

    Raises:
        Diverged: the loss became NaN or infinite; the model holds the best epoch before.
    """
    folder = folder_of(run, learner.role, learner.seed)
    before = finished(run, learner.role, learner.seed)
    if before is not None:
        learner.model.load_weights(folder / WEIGHTS)
        return before
    keras.utils.set_random_seed(learner.seed)
    best = Best()
    checkpoint = Checkpoint(folder, best)
    run.forget_epochs(seed=learner.seed, model=learner.role, after=checkpoint.epochs)
    plan = phases(budget, epochs or budget.epochs)
    judge = _judge(learner, task, best, run, judged=judged)
    try:
        _fit(learner, task, budget, plan, checkpoint, judge, progress)
        if to_go_on:
            checkpoint.write(plan[-1].last_epoch)
    finally:
        if best.weights is not None:
            learner.model.set_weights(best.weights)
            learner.model.save_weights(folder / WEIGHTS)
    seconds = round(checkpoint.seconds(), 3)
    outcome = Outcome(plan[-1].last_epoch, best.epoch, best.score, seconds)
    write_json(folder / OUTCOME, dataclasses.asdict(outcome))
    return outcome


def folder_of(run: Journal, role: str, seed: int) -> Path:
    """Where a training keeps what is needed to go on, and its best weights."""
    name = re.sub(r"[^\w.=,+-]", "-", role)[:100]  # a role may name the path of a layer or a file
    name = name if name == role else f"{name}-{fingerprint(role)}"
    return run.work / f"{name}-{seed}"


def finished(run: Journal, role: str, seed: int) -> Outcome | None:
    """How a training went that was finished before; None for one that was not."""
    path = folder_of(run, role, seed) / OUTCOME
    return Outcome(**json.loads(path.read_text())) if path.exists() else None


def _class_weight(task: Task) -> dict[int, float]:
    return task.class_weight or balanced_class_weight(task.train.labels, task.classes)


def _judge(
    learner: Learner, task: Task, best: Best, run: Journal, *, judged: bool
) -> keras.callbacks.Callback:
    """What keeps the weights of the best epoch, or of the last."""

    def journal(line):
        run.epoch({"seed": learner.seed, "model": learner.role, **line})

    if not judged:
        return Last(learner.model, best, journal)
    predictor = learner.predict or Predictor(learner.model)

    def predict(split):
        return predictor.repeatedly(split, f"{task.fingerprint}/validation")

    return Validation(
        learner.role,
        learner.model,
        predict,
        task.validation,
        task.metric,
        best,
        journal,
        last=learner.keep == "last",
    )


def _fit(learner, task, budget, plan, checkpoint, judge, progress):
    """Every phase from the last checkpoint on."""
    data = pipeline.Epochs(
        task.train,
        batch_size=budget.batch_size,
        seed=learner.seed,
        augmentation=budget.augmentation,
        class_weight=_class_weight(task) if budget.class_weights else None,
        views=learner.views,
        augmentation_seed=learner.augmentation_seed,
    )
    watch = DivergenceWatch(learner.role)
    done = checkpoint.epochs
    for phase in plan:
        phase.prepare(learner.student)
        if done > phase.last_epoch:
            continue
        optimizer = keras.optimizers.Adam(phase.learning_rate)
        steps = budget.steps_per_execution
        trainer = learner.ready(phase.name, optimizer, steps_per_execution=steps)
        if done > phase.first_epoch:
            # also at a phase's end, since its optimizer is needed to read the checkpoint
            trainer.optimizer.build(trainer.trainable_variables)
            checkpoint.restore(trainer)
        if done < phase.last_epoch:
            trainer.fit(
                learner.join(data),
                initial_epoch=max(done, phase.first_epoch),
                epochs=phase.last_epoch,
                callbacks=[data.callback, watch, judge, checkpoint, *progress],
                shuffle=False,
                verbose=0,
            )
