"""Before a run trains students: how good its teacher is on validation and on train."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np

from kd_keras.data import pipeline
from kd_keras.data.task import Split, Task
from kd_keras.recipes.predict import Predictor
from kd_keras.training import teacher_check
from kd_keras.training.teacher_check import Teaching

log = logging.getLogger(__name__)

TRAIN_IMAGES = 1000  # of the training split: a large teacher's pass over all would take long


def facts(teacher: keras.Model, task: Task, seed: int) -> dict[str, Any]:
    """What the results keep of a teacher; logged, and where it cannot teach as a warning.

    Args:
        teacher: ready to teach.
        task: whose validation split it answers, and up to 1,000 of whose training images.
        seed: of its training.

    Returns:
        `seed`; `validation` and `train`, each with `accuracy`, `commonest` (the accuracy of always
        naming the commonest class) and `examples`; `order` and `warning`, as in
        `teacher_check.Teaching`.
    """
    predict = Predictor(teacher)
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


def warning(found: Sequence[dict[str, Any]]) -> str:
    """What a verdict may not be shown without, where the teacher could not teach; else ''."""
    warned = [one for one in found if one["warning"]]
    if not warned:
        return ""
    seeds = ", ".join(str(one["seed"]) for one in warned)
    return f"Beware of the teacher (seed {seeds}). {warned[0]['warning']}"


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
        return teacher_check.Sample(_pixels(few), few.labels, teacher)

    return teacher_check.examine(
        predict(split), split.labels, names=task.class_names, sample=sample
    )


def _pixels(split: Split) -> np.ndarray:
    if split.images is not None:
        return split.images
    batches = pipeline.in_order(split, batch_size=len(split))
    return np.concatenate([batch.numpy() for batch in batches])


def _plain(found: Teaching | None) -> dict[str, Any] | None:
    if found is None:
        return None
    known = dataclasses.asdict(found)
    return {name: known[name] for name in ("accuracy", "commonest", "examples")}
