"""Explain the models of a finished run: maps on test images, and numbers about them."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd_keras.config import DataConfig, ExplainConfig
from kd_keras.data import images
from kd_keras.data.task import Task
from kd_keras.evaluation import explain
from kd_keras.evaluation.explain import Explanation
from kd_keras.recipes import finished, per_image, reading
from kd_keras.recipes.saving import load_model

WHY_MISSING = {
    "teacher": "a teacher that Keras cannot save is not kept",
    "alone": "runs of earlier versions did not keep it",
    "distilled": "the run has kept no student",
}
DRAWINGS = ("digits", "mnist", "digits_halves", "mnist_halves")  # tasks, on a dark background


@dataclasses.dataclass(frozen=True)
class Found:
    """Maps of a run's models on test images, and numbers about them.

    Attributes:
        run: the run folder.
        config: what was asked for.
        task_name: the name of the task.
        class_names: the names of its classes.
        names: of the images, in the order in which they were drawn.
        pixels: uint8, shape `(n, height, width, channels)`.
        labels: class numbers, shape `(n,)`; all of them `data.task.UNKNOWN` if there are none.
        shown: places in `names` of the images to show.
        models: by role, the maps of each model and its predictions.
        numbers: by role: `empty`, the number of maps that are zero everywhere; `similarity`, to the
            teacher's maps; `pointing`. See `evaluation.explain`; the last two may be None.
        more_similar: how much more the distilled student's maps correlate with the teacher's than
            those of the student alone, as `evaluation.explain.mean_over_images` gives it; or None.
        notes: sentences: how the maps were made, and what was left out and why.
    """

    run: Path
    config: ExplainConfig
    task_name: str
    class_names: tuple[str, ...]
    names: tuple[str, ...]
    pixels: np.ndarray
    labels: np.ndarray
    shown: np.ndarray
    models: dict[str, Explanation]
    numbers: dict[str, dict[str, Any]]
    more_similar: dict[str, Any] | None
    notes: tuple[str, ...]


def run(
    folder: str | Path, config: ExplainConfig | None = None, data: DataConfig | None = None
) -> Found:
    """Return what the models of a run look at, on test images.

    The images are a random sample of the test split. Of those to be shown, half are the first on
    which the predictions of teacher and student differ, if there are as many, and the rest are the
    first of the others.

    Args:
        folder: the folder of a finished run.
        config: which images, and how; the defaults if not given.
        data: other data, with images and classes of the same kind; those of the run if not given.

    Raises:
        FileNotFoundError, ValueError: as `finished.check`; for data that are missing, or no longer
            those of the run; if a model does not fit the data, or has no such tap, or no feature
            maps for Grad-CAM.
    """
    place, config = Path(folder), config or ExplainConfig()
    task = _task(place, finished.check(place), data)
    models, missing = _load(place, task)
    rows = np.random.default_rng(config.seed).permutation(len(task.test))
    rows = rows[: max(config.sample, config.images)]
    test = task.test.rows(rows)
    if config.explained == "label" and not test.labelled:
        raise ValueError("`explained` cannot be 'label': the test images have no labels.")
    pixels = images.pixels_of(test)
    method, why = _method(models, config)
    classes = test.labels if config.explained == "label" else None
    made = {
        role: explain.explain(model, pixels, classes, method=method, tap=config.tap)
        for role, model in models.items()
    }
    masks = explain.drawn(pixels) if config.drawings or task.name in DRAWINGS else None
    numbers = _numbers(made, masks)
    every = per_image.names_of(task)
    return Found(
        run=place,
        config=config,
        task_name=task.name,
        class_names=tuple(map(str, task.class_names)),
        names=tuple(every[row] for row in rows),
        pixels=pixels,
        labels=test.labels,
        shown=_shown(made, config.images),
        models=made,
        numbers=numbers,
        more_similar=_more_similar(numbers),
        notes=(*why, *missing, *_pointing_note(masks, task)),
    )


def _task(run: Path, results: Mapping[str, Any], data: DataConfig | None) -> Task:
    """Return the task of other data, or of a run; its images must be those of the run."""
    if data is not None:
        return reading.read_task(data)
    task = reading.read_task(finished.data_of(run))
    known = (results.get("task") or {}).get("fingerprint", task.fingerprint)
    if task.fingerprint != known:
        raise ValueError(
            f"The data of {task.name!r} have changed since the run in {run} was made: their "
            f"fingerprint is {task.fingerprint}, it was {known}. To look at other images, name "
            "them, by --data or --data-dir."
        )
    return task


def _load(run: Path, task: Task) -> tuple[dict[str, keras.Model], list[str]]:
    """Return the models of a run by role, and a sentence on each that is left out."""
    if (run / finished.MODELS["model"]).is_file():
        return {"model": load_model(run / finished.MODELS["model"], task)}, []
    models, missing = {}, []
    for role, why in WHY_MISSING.items():
        path = run / finished.MODELS[role]
        if path.is_file():
            models[role] = load_model(path, task)
        else:
            missing.append(f"Left out: {role}, since {path} does not exist ({why}).")
    return models, missing


def _method(models: Mapping[str, keras.Model], config: ExplainConfig) -> tuple[str, list[str]]:
    """Return the one method for all models, whose maps are compared, and sentences on it."""
    if config.maps is not None or config.tap is not None:
        method = config.maps or explain.GRADCAM
        where = "each model's last feature maps" if config.tap is None else repr(config.tap)
        at = f" at {where}" if method == explain.GRADCAM else ""
        return method, [f"Maps: {explain.TITLES[method]}{at}, as requested."]
    found = {role: explain.map_tap(model) for role, model in models.items()}
    without = [role for role, tap in found.items() if tap is None]
    if not without:
        places = ", ".join(f"{tap} of {role}" for role, tap in found.items())
        return explain.GRADCAM, [f"Maps: Grad-CAM, at the last feature maps ({places})."]
    reason = f"Maps: input gradients, since no feature maps were found in: {', '.join(without)}."
    if len(without) < len(found):
        reason += " All models get maps of one kind, so that they can be compared."
    return explain.INPUT_GRADIENTS, [reason]


def _pointing_note(masks: np.ndarray | None, task: Task) -> list[str]:
    if masks is not None:
        return []
    return [
        f"Left out: how often a map's maximum lies on the object, since {task.name!r} is not known "
        "to hold drawings on a dark background (--drawings says that it does)."
    ]


def _numbers(
    made: Mapping[str, Explanation], masks: np.ndarray | None
) -> dict[str, dict[str, Any]]:
    teacher = made.get("teacher")
    return {
        role: {
            "empty": int(own.empty.sum()),
            "similarity": None
            if teacher is None or role == "teacher"
            else explain.similarity(own.maps, teacher.maps),
            "pointing": None if masks is None else explain.pointing(own.maps, masks),
        }
        for role, own in made.items()
    }


def _more_similar(numbers: Mapping[str, dict[str, Any]]) -> dict[str, Any] | None:
    both = [(numbers.get(role) or {}).get("similarity") for role in ("distilled", "alone")]
    each = [one["by_image"] for one in both if one is not None]
    return explain.mean_over_images(each[0] - each[1]) if len(each) == 2 else None


def _shown(made: Mapping[str, Explanation], count: int) -> np.ndarray:
    """Return the places of the images to show, those of disagreement first."""
    size = len(next(iter(made.values())).classes)
    if not {"teacher", "distilled"} <= made.keys():
        return np.arange(size)[:count]
    differ = made["teacher"].predicted != made["distilled"].predicted
    apart, alike = np.flatnonzero(differ), np.flatnonzero(~differ)
    first = max(min(len(apart), count // 2), count - len(alike))
    return np.concatenate([apart[:first], alike[: count - first]])
