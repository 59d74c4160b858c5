"""The results of a run: quality by seed, costs, and whether distillation helped."""

import dataclasses
import logging
import math
import statistics
from collections.abc import Sequence
from typing import Any, NotRequired, TypedDict

import keras
import numpy as np

from kd_keras.data import images
from kd_keras.data.task import Split, Task
from kd_keras.evaluation import cost
from kd_keras.evaluation.metrics import METRICS, title
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.training import Outcome
from kd_keras.teachers import is_foreign
from kd_keras.training import teacher_check
from kd_keras.training.teacher_check import Teaching

log = logging.getLogger(__name__)

TRAIN_IMAGES = 1000  # a large teacher's pass over the whole training split would take long


class Spread(TypedDict):
    """Mean and sample standard deviation over seeds (None for a single one)."""

    mean: float
    std: float | None
    n: int


class SeedEntry(TypedDict):
    """One training's part of the results; of a model that was trained elsewhere, its test alone."""

    seed: int | None
    test: dict[str, Any]  # as `evaluation.quality.evaluate` gives it
    epochs: NotRequired[int]
    best_epoch: NotRequired[int]
    train_seconds: NotRequired[float]
    validation: NotRequired[dict[str, float]]


class ModelEntry(TypedDict):
    """One model's part of the results: its seeds, their mean and spread, its cost."""

    name: str
    cost: dict[str, Any]  # as `evaluation.cost.describe` gives it
    seeds: list[SeedEntry]
    summary: dict[str, Spread]
    operating: NotRequired[dict[str, Any]]  # as `predictions.Predictions.operating` gives it


class Verdict(TypedDict):
    """The claim that a difference on test supports; see `verdict`."""

    metric: str
    gain: float
    by_seed: list[float]
    interval: list[float] | None
    confidence: float
    beats: bool
    text: str


class Results(TypedDict):
    """The contents of `results.json`, as JSON stores them: dicts, so that a page reads them too."""

    task: dict[str, Any]
    models: dict[str, ModelEntry]
    export: dict[str, Any] | None
    verdict: Verdict | None
    teacher_check: NotRequired[list[dict[str, Any]]]
    sweep: NotRequired[dict[str, Any]]
    search: NotRequired[dict[str, Any]]
    teacher_over: NotRequired[dict[str, Any]]  # by student alone, as `paired.difference` gives it
    examples: NotRequired[dict[str, Any]]  # as `per_image.write_pictures` gives it
    findings: NotRequired[list[str]]


def task_facts(task: Task, students: Task | None = None) -> dict[str, Any]:
    """Return the task's entry in `results.json`, with the transfer set if students learn on one."""
    other = students is not None and students is not task
    return {
        "name": task.name,
        "classes": task.classes,
        "class_names": list(task.class_names),
        "metric": task.metric,
        "train": len(task.train),
        "validation": len(task.validation),
        "test": len(task.test),
        "fingerprint": task.fingerprint,
        "repeats": [
            {**dataclasses.asdict(repeat), "sentence": repeat.sentence} for repeat in task.repeats
        ],
        **({"transfer": len(students.train)} if other and students is not None else {}),
    }


def seed_entry(seed: int, outcome: Outcome, task: Task, test: dict[str, Any]) -> SeedEntry:
    """Return the results' entry of one training; without a score it has no `validation`."""
    entry: SeedEntry = {
        "seed": seed,
        "epochs": outcome.epochs,
        "best_epoch": outcome.best_epoch,
        "train_seconds": outcome.seconds,
        "test": test,
    }
    if not math.isnan(outcome.score):
        entry["validation"] = {task.metric: outcome.score}
    return entry


def model_entry(name: str, cost: dict[str, Any], seeds: Sequence[SeedEntry]) -> ModelEntry:
    """Return the results' entry of one model: its seeds, and their mean and spread."""
    summary = {}
    for metric in METRICS:
        values = [seed["test"].get(metric) for seed in seeds]
        known = [value for value in values if value is not None]
        if len(known) == len(values):
            summary[metric] = spread(known)
    return {"name": name, "cost": cost, "seeds": list(seeds), "summary": summary}


UNKNOWN_COST: dict[str, Any] = {
    "parameters": None,
    "flops": None,
    "latency_ms": {},
    "latency_unsure": None,
    "weight_bytes": None,
}


def cost_of(costs: cost.Costs, model: keras.Model) -> dict[str, Any]:
    """Return the cost of a model; of a teacher that runs outside of Keras, nothing is known."""
    return dict(UNKNOWN_COST) if is_foreign(model) else costs.of(model)


def spread(values: Sequence[float]) -> Spread:
    """Return the mean and the sample standard deviation (None for a single value)."""
    deviation = statistics.stdev(values) if len(values) > 1 else None
    return {"mean": statistics.fmean(values), "std": deviation, "n": len(values)}


@dataclasses.dataclass(frozen=True)
class Names:
    """The names that a verdict gives to what was tried, and to its rival."""

    tried: str = "Distillation"
    against: str = "the same student trained alone"


def verdict(difference: dict[str, Any], names: Names = Names()) -> Verdict:
    """Return what a difference on test shows: better, worse, or no difference that can be told.

    Args:
        difference: of the task's metric, as `paired.difference` gives it; larger is better.
        names: the names of other models than the distilled student and the student alone.

    Returns:
        `metric`; `gain`, the mean difference; `by_seed`, the difference of each seed; `interval`
        and its `confidence`; `beats`, True if the interval lies above zero and there are several
        seeds; `text`, a sentence.

    Example:
        >>> found = {"metric": "accuracy", "difference": 0.02, "by_seed": [0.01, 0.03],
        ...          "interval": [-0.01, 0.05], "confidence": 0.95}
        >>> verdict(found)["beats"]
        False
    """
    interval, by_seed = difference["interval"], difference["by_seed"]
    return {
        "metric": difference["metric"],
        "gain": difference["difference"],
        "by_seed": by_seed,
        "interval": interval,
        "confidence": difference["confidence"],
        "beats": interval is not None and interval[0] > 0 and len(by_seed) > 1,
        "text": _sentence(difference, names),
    }


def noted(verdict: Verdict, *notes: str) -> Verdict:
    """Return a verdict with notes that must appear with its numbers, such as a method's note."""
    return {**verdict, "text": " ".join([verdict["text"], *filter(None, notes)])}


def _sentence(difference: dict[str, Any], names: Names) -> str:
    interval, by_seed = difference["interval"], difference["by_seed"]
    change = (
        f"{title(difference['metric'])} {difference['difference']:+.4f} against {names.against}"
    )
    if interval is None:
        return f"No interval could be computed, so nothing is claimed: {change}."
    low, high = interval
    change += f", {100 * difference['confidence']:g} % interval {low:+.4f} to {high:+.4f}"
    tellable = low > 0 or high < 0
    if len(by_seed) == 1:
        start = "One seed" if tellable else "No difference that this test can tell, with one seed"
        return f"{start}: {change}, which does not include the spread over seeds."
    each = ", ".join(f"{gain:+.4f}" for gain in by_seed)
    change += f", over {len(by_seed)} seeds ({each})."
    if not tellable:
        return f"No difference that this test can tell: {change}"
    return f"{names.tried} {'helped' if low > 0 else 'did harm'}: {change}"


def teacher_facts(
    teacher: keras.Model, task: Task, seed: int, predict: Predictor | None = None
) -> dict[str, Any]:
    """Return the results' entry of a teacher and log it, with a warning if it cannot teach.

    Args:
        teacher: ready to teach.
        task: the teacher runs on its validation split and on up to 1,000 of its training images.
        seed: the seed of its training.
        predict: runs the teacher over a split; a new predictor if not given.

    Returns:
        `seed`; `validation` and `train`, each with `accuracy`, `commonest` (the accuracy of always
        naming the commonest class) and `examples`; `order` and `warning`, as in
        `teacher_check.Teaching`.
    """
    predict = predict or Predictor(teacher)
    train = _some(task.train, TRAIN_IMAGES)
    on_validation, on_train = (
        _examined(teacher, predict, x, task) for x in (task.validation, train)
    )
    both = [x for x in (on_validation, on_train) if x is not None]
    if not both:
        return {"seed": seed, "warning": None}
    told = [f"validation: {on_validation}"] if on_validation else []
    if on_train:
        some = "" if len(train) == len(task.train) else f" of {len(task.train):,}"
        told.append(f"train{some}: {on_train}")
    log.info("seed %d: the teacher on %s", seed, "; on ".join(told))
    warning = next((x.warning for x in both if x.warning), None)
    if warning:
        log.warning("WARNING, seed %d: %s", seed, warning)
    return {
        "seed": seed,
        "validation": _plain(on_validation),
        "train": _plain(on_train),
        "order": next((list(x.order) for x in both if x.order), None),
        "warning": warning,
    }


def _some(split: Split, count: int) -> Split:
    if len(split) <= count:
        return split
    chosen = np.random.default_rng(0).choice(len(split), count, replace=False)
    return split.rows(np.sort(chosen))


def _examined(
    teacher: keras.Model, predict: Predictor, split: Split, task: Task
) -> Teaching | None:
    if not len(split) or not split.labelled:
        return None

    def sample():
        few = _some(split, teacher_check.PROBED)
        return teacher_check.Sample(images.pixels_of(few), few.labels, teacher)

    # a function of another framework may take raw pixels alone
    tried = None if is_foreign(teacher) else sample
    return teacher_check.examine(predict(split), split.labels, names=task.class_names, sample=tried)


def _plain(found: Teaching | None) -> dict[str, Any] | None:
    if found is None:
        return None
    known = dataclasses.asdict(found)
    return {name: known[name] for name in ("accuracy", "commonest", "examples")}
