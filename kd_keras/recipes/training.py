"""One training of one model: its phases, its best epoch, and how it goes on after a kill."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from typing import Any

import keras

from kd_keras.config import BudgetConfig
from kd_keras.data import pipeline
from kd_keras.data.task import Task, balanced_class_weight
from kd_keras.files import write_json
from kd_keras.models import freezing
from kd_keras.recipes.callbacks import Best, Checkpoint, DivergenceWatch, Validation
from kd_keras.recipes.runs import RunFolder


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
    """How a training went; `score` is the task's metric on validation at the best epoch."""

    epochs: int
    best_epoch: int
    score: float
    seconds: float


@dataclasses.dataclass(frozen=True)
class Learner:
    """What is trained.

    Attributes:
        role: `"teacher"`, `"alone"`, `"distilled"`, ...: names it in logs and files.
        seed: of the order of the examples, and of dropout.
        model: the model whose weights count.
        trainer: what `fit` is called on: the model itself, or a Distiller around it.
        compile: called with an optimizer, before each phase.
        join: what is done to the pipeline, such as joining the teacher's answers.
    """

    role: str
    seed: int
    model: keras.Model
    trainer: keras.Model
    compile: Callable[[Any], None]
    join: Callable[[Any], Any] = lambda dataset: dataset


def supervised(role: str, seed: int, model: keras.Model, task: Task) -> Learner:
    """A learner on labels alone, with cross-entropy on logits."""
    soft = task.train.soft_labels is not None
    loss = (
        keras.losses.CategoricalCrossentropy if soft else keras.losses.SparseCategoricalCrossentropy
    )

    def compile_with(optimizer, **options):
        model.compile(optimizer=optimizer, loss=loss(from_logits=True), **options)

    def images_alone(dataset):
        return dataset.map(lambda batch, *rest: (batch["image"], *rest))

    return Learner(role, seed, model, model, compile_with, images_alone)


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
    run: RunFolder,
    *,
    epochs: int | None = None,
    progress: Sequence[keras.callbacks.Callback] = (),
) -> Outcome:
    """Train to the end and leave the best epoch's weights in `learner.model`.

    Goes on where an interrupted run of the same settings stopped; a training that was finished is
    not repeated.

    Raises:
        Diverged: the loss became NaN or infinite; the model holds the best epoch before.
    """
    folder = run.work / f"{learner.role}-{learner.seed}"
    if (folder / "outcome.json").exists():
        learner.model.load_weights(folder / "best.weights.h5")
        return Outcome(**json.loads((folder / "outcome.json").read_text()))
    keras.utils.set_random_seed(learner.seed)
    best = Best()
    checkpoint = Checkpoint(folder, best)
    run.forget_epochs(seed=learner.seed, model=learner.role, after=checkpoint.epochs)
    plan = phases(budget, epochs or budget.epochs)
    try:
        _fit(learner, task, budget, plan, checkpoint, _judge(learner, task, best, run), progress)
    finally:
        if best.weights is not None:
            learner.model.set_weights(best.weights)
            learner.model.save_weights(folder / "best.weights.h5")
    seconds = round(checkpoint.seconds(), 3)
    outcome = Outcome(plan[-1].last_epoch, best.epoch, best.score, seconds)
    write_json(folder / "outcome.json", dataclasses.asdict(outcome))
    return outcome


def _class_weight(task: Task) -> dict[int, float]:
    return task.class_weight or balanced_class_weight(task.train.labels, task.classes)


def _judge(learner: Learner, task: Task, best: Best, run: RunFolder) -> Validation:
    def journal(line):
        run.epoch({"seed": learner.seed, "model": learner.role, **line})

    return Validation(learner.role, learner.model, task.validation, task.metric, best, journal)


def _fit(learner, task, budget, plan, checkpoint, judge, progress):
    """Every phase from the last checkpoint on."""
    data = pipeline.Epochs(
        task.train,
        batch_size=budget.batch_size,
        seed=learner.seed,
        augmentation=budget.augmentation,
        class_weight=_class_weight(task) if budget.class_weights else None,
    )
    dataset = learner.join(data.dataset)
    watch = DivergenceWatch(learner.role)
    done = checkpoint.epochs
    for phase in plan:
        phase.prepare(learner.model)
        if done > phase.last_epoch:
            continue
        learner.compile(
            keras.optimizers.Adam(phase.learning_rate),
            steps_per_execution=budget.steps_per_execution,
        )
        if done > phase.first_epoch:
            # also at a phase's end, since its optimizer is needed to read the checkpoint
            learner.trainer.optimizer.build(learner.trainer.trainable_variables)
            checkpoint.restore(learner.trainer)
        if done < phase.last_epoch:
            learner.trainer.fit(
                dataset,
                initial_epoch=max(done, phase.first_epoch),
                epochs=phase.last_epoch,
                callbacks=[data.callback, watch, judge, checkpoint, *progress],
                shuffle=False,
                verbose=0,
            )
