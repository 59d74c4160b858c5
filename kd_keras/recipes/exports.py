"""Exports of a finished run's model, compared on the run's own images; or of any model's file."""

import dataclasses
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np

from kd_keras import export
from kd_keras.data import images
from kd_keras.data.task import Split, Task
from kd_keras.evaluation import operating, quality
from kd_keras.evaluation.metrics import METRICS
from kd_keras.evaluation.predictions import probabilities
from kd_keras.export import Export, ExportFormat, Judge, Stopwatch
from kd_keras.recipes import finished, setup
from kd_keras.recipes.predictions import Predictor
from kd_keras.recipes.runs import RESULTS
from kd_keras.runtime import machine
from kd_keras.utils import records
from kd_keras.utils.checks import lookup
from kd_keras.utils.files import write_json

log = logging.getLogger(__name__)

SPLITS = ("test", "validation")
REPRESENTATIVE = 200  # training images from which the ranges of activations are read
FORMATS_JSON = "formats.json"


@dataclasses.dataclass(frozen=True)
class Source:
    """A model to export, and what is known of it.

    Attributes:
        path: its file.
        model: the model.
        known: what `export.export` is given for every format: of a run's model its `sample` and
            the model's `logits` for it, `class_names`, `judge` and `about`; nothing of a bare file.
        representative: training images, uint8, shape `(n, height, width, channels)`; None for a
            bare file.
    """

    path: Path
    model: keras.Model
    known: dict[str, Any] = dataclasses.field(default_factory=dict)
    representative: np.ndarray | None = None

    @classmethod
    def of(cls, path: Path, split: str = "test") -> "Source":
        """Read a model's file, or the model of a run folder with the run's images.

        Args:
            path: a `.keras` or whole `.h5` file, or a run folder.
            split: that of the run's images on which exports are compared: `test`, or `validation`
                if a format is to be chosen by it.

        Raises:
            FileNotFoundError, ValueError: there is no model, the split is unknown or empty, or the
                run's data cannot be read or have changed.
        """
        lookup("split", dict.fromkeys(SPLITS), split)
        file = finished.model_in(path)
        if not finished.is_run(path):
            return cls(file, setup.read_model(file))
        task = _task_of(path)
        model = setup.load_model(file, task)
        return cls(file, model, _known(path, task, model, split), _drawn(task.train))

    def export(
        self,
        out: Path,
        format: str,
        quantize: str = "none",
        *,
        min_agreement: float | None = None,
        stopwatch: Stopwatch | None = None,
    ) -> Export:
        """Export the model in one format; see `export.export`.

        Raises:
            ValueError, OSError, RuntimeError: as `export.export`.
        """
        return export.export(
            self.model,
            out,
            format,
            quantize=quantize,
            representative=self.representative,
            min_agreement=min_agreement,
            stopwatch=stopwatch,
            **self.known,
        )


def one(
    path: Path,
    out: Path,
    format: str = "saved_model",
    quantize: str = "none",
    *,
    min_agreement: float | None = None,
    split: str = "test",
) -> Export:
    """Export a model or a run's model in one format, and time it beside its Keras model.

    Args:
        path: a `.keras` or whole `.h5` file, or a run folder.
        out: the folder or file to write.
        format: a name in `export.FORMATS`.
        quantize: a name in `export.QUANTIZATIONS`.
        min_agreement: the least share of images with the model's class, in place of the
            quantization's own.
        split: of the run's images to compare on, `test` or `validation`.

    Raises:
        FileNotFoundError, ValueError, OSError, RuntimeError: as `Source.of` and `export.export`.
    """
    export.check_target(out, format, quantize)
    source = Source.of(path, split)
    with Stopwatch(source.model) as stopwatch:
        return source.export(
            out, format, quantize, min_agreement=min_agreement, stopwatch=stopwatch
        )


def every(
    path: Path, out: Path, *, min_agreement: float | None = None, split: str = "test"
) -> dict[str, Any]:
    """Export a model in every format and quantization that can be written here.

    Args:
        path, min_agreement, split: as in `one`.
        out: a folder. Each export has the name of its format and quantization, such as
            `litert-int8.tflite`.

    Returns:
        The content of `formats.json` in the folder: `model`, the file; `machine`; `exports`, each
        as `dataclasses.asdict` of an `Export` gives it; `refused`, each with `format`, `quantize`
        and `reason`; `skipped`, likewise, for what needs packages or images that are not there.

    Raises:
        FileNotFoundError, ValueError, OSError: as `Source.of` and `export.check_target`.
        RuntimeError: nothing at all could be exported.
    """
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"`path` must be a folder to write, but it is a file: {out}")
    source = Source.of(path, split)
    skipped, wanted = _plan(source, out)
    for form, quantize in wanted:
        export.check_target(_named(out, form, quantize), form.name, quantize)
    made, refused = [], []
    with Stopwatch(source.model) as stopwatch:
        for form, quantize in wanted:
            target, entry = _named(out, form, quantize), {"format": form.name, "quantize": quantize}
            log.info("exporting %s, quantize %s", form.name, quantize)
            try:
                done = source.export(
                    target,
                    form.name,
                    quantize,
                    min_agreement=min_agreement,
                    stopwatch=stopwatch,
                )
            except (RuntimeError, ValueError) as error:  # of this format; the next may do
                log.warning("%s, quantize %s: refused", form.name, quantize)
                refused.append({**entry, "reason": str(error).partition("\n")[0]})
            else:
                made.append(dataclasses.asdict(done))
    if not made:
        raise RuntimeError(f"Nothing could be exported. The first reason: {refused[0]['reason']}")
    found = {
        "model": str(source.path),
        "machine": machine.describe(),
        "exports": made,
        "refused": refused,
        "skipped": skipped,
    }
    write_json(out / FORMATS_JSON, found)
    return found


def _plan(source: Source, out: Path) -> tuple[list[dict[str, str]], list[tuple[ExportFormat, str]]]:
    """Return what cannot be exported here, with the reasons, and what can."""
    skipped, wanted = [], []
    for form, quantize in _all():
        reason = form.needs
        if form.quantization(quantize).calibrated and source.representative is None:
            reason = reason or "It needs training images: name a run folder in place of its model."
        if reason is None:
            wanted.append((form, quantize))
        else:
            skipped.append({"format": form.name, "quantize": quantize, "reason": reason})
    return skipped, wanted


def _all() -> Iterator[tuple[ExportFormat, str]]:
    for form in export.FORMATS.values():
        for quantize in form.writers:
            yield form, quantize


def _named(out: Path, form: ExportFormat, quantize: str) -> Path:
    ending = "" if quantize == "none" else f"-{quantize}"
    return form.place.named(out / f"{form.name}{ending}")


def _task_of(run: Path) -> Task:
    """Return the data of a run.

    Raises:
        ValueError: they cannot be read, or are not those that the run was made with.
    """
    instead = (
        f"To export its model without them, name the file {finished.model_in(run)}; it is then "
        "compared on random images."
    )
    try:
        task = setup.load_task(finished.data_of(run))
    except (ValueError, FileNotFoundError) as error:
        raise ValueError(
            f"The data of the run in {run} cannot be read: {error} {instead}"
        ) from error
    known = records.read_json(run / "results.json", RESULTS)["task"]["fingerprint"]
    # a run may have learned on its validation images too
    if known.partition("+")[0] != task.fingerprint.partition("+")[0]:
        raise ValueError(
            f"The data that the run in {run} names are not those that it was made with. {instead}"
        )
    return task


def _known(run: Path, task: Task, model: keras.Model, split: str) -> dict[str, Any]:
    """Return the `known` of a run's model, as `Source` has it."""
    examples: Split = getattr(task, split)
    if not len(examples):
        raise ValueError(f"The run in {run} has no {split} images to compare exports on.")
    pixels = images.pixels_of(examples)
    logits = export.logits_on_cpu(model, pixels)
    found = quality.evaluate(logits, examples.labels, resamples=0)
    metrics = {name: found[name] for name in METRICS if found.get(name) is not None}
    return {
        "sample": pixels,
        "logits": logits,
        "class_names": list(task.class_names),
        "judge": Judge(task.metric, examples.labels, split),
        "about": {
            "run": run.name,
            "task": {"name": task.name, "fingerprint": task.fingerprint, "metric": task.metric},
            "metrics": {"split": split, "examples": len(examples), **metrics},
            "threshold": _threshold(task, model),
        },
    }


def _drawn(split: Split) -> np.ndarray:
    """Return the pixels of some training images, drawn by a fixed seed."""
    count = min(REPRESENTATIVE, len(split))
    chosen = np.random.default_rng(0).choice(len(split), count, replace=False)
    return images.pixels_of(split.rows(np.sort(chosen)))


def _threshold(task: Task, model: keras.Model) -> dict[str, Any] | None:
    """Return the threshold that validation chooses; None unless it has both of two classes."""
    labels = task.validation.labels
    if task.classes != 2 or not {0, 1} <= set(np.unique(labels).tolist()):
        return None
    scores = probabilities(Predictor(model)(task.validation))[:, 1]
    return {
        "positive": str(task.class_names[1]),
        "probability": operating.youden(labels == 1, scores),
        "chosen_by": operating.CHOSEN_BY,
    }
