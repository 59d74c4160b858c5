"""The latency of exports, measured in turn with the Keras model that they were made from."""

import contextlib
import tempfile
from pathlib import Path
from typing import Any, Self

import keras
import numpy as np

from kd_keras.evaluation import busy, cost
from kd_keras.export import savedmodel
from kd_keras.export.content import Content, describe
from kd_keras.export.formats import FORMATS, ExportFormat
from kd_keras.export.loaded import Loaded, cores
from kd_keras.export.quantization import QUANTIZATIONS
from kd_keras.runtime import machine

TURN = 10  # inferences of one before it is the other's turn
REPEATS = 200  # inferences of each to time, at most
SECONDS = 0.5  # time after which no further turn starts, once two are timed
WARMUP = 5
SIGNATURE = "classify"


class Stopwatch:
    """Times exports on one thread and on all, each in turn with the Keras model.

    Both run in processes of their own, on the CPU, with the same number of threads; the Keras model
    runs as the `tf.function` that its SavedModel holds. An inference is from one image in NumPy to
    its logits in NumPy. The model's processes start with the first export, and serve all.

    Args:
        model: a model of one image of known size that returns logits.

    Example:
        ```python
        with kd.export.Stopwatch(student) as stopwatch:
            made = kd.export.export(student, "s.tflite", "litert", stopwatch=stopwatch)
        made.latency["threads"][0]["median_ms"]
        ```
    """

    def __init__(self, model: keras.Model):
        self._model = model
        self._held = contextlib.ExitStack()
        self._references: dict[int, Loaded] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *raised: object) -> None:
        self._references.clear()
        self._held.close()

    def time(self, form: ExportFormat, path: Path, signature: str) -> dict[str, Any]:
        """Return the latency of an export and of its model, batches of one image.

        Args:
            form: the format.
            path: the folder or file.
            signature: the name of its function.

        Returns:
            `threads`: a list of one entry on one thread and one on all cores, each with `threads`,
            `median_ms` and `p95_ms` of the export, `keras_median_ms` and `keras_p95_ms` of the
            model; `unsure`: why they say little, such as other programs that ran, or None;
            `processor` of this machine.
        """
        entries, doubts = [], []
        for threads in sorted({1, cores()}):
            reference = self._reference(threads)
            with Loaded(form, path, signature, threads) as export:
                watch = busy.Watch(export.process, reference.process)
                ours, theirs = _in_turn(export, reference, self._image)
                others = watch.others()
            times = {"export": _quantiles(ours), "model": _quantiles(theirs)}
            doubts.append(cost.doubt(times, others))
            keras_times = {f"keras_{name}": value for name, value in times["model"].items()}
            entries.append({"threads": threads, **times["export"], **keras_times})
        return {
            "threads": entries,
            "unsure": next((doubt for doubt in doubts if doubt), None),
            "processor": machine.describe()["processor"],
        }

    @property
    def _image(self) -> np.ndarray:
        shape = (1, *self._model.input_shape[1:])
        return np.random.default_rng(0).integers(0, 256, shape).astype(np.float32)

    def _reference(self, threads: int) -> Loaded:
        if not self._references:
            self._folder = Path(self._held.enter_context(tempfile.TemporaryDirectory()))
            plain = QUANTIZATIONS["none"]
            facts = describe(self._model, "saved_model", plain)
            savedmodel.write(Content(self._model, SIGNATURE, plain, facts), self._folder)
        if threads not in self._references:
            loaded = Loaded(FORMATS["saved_model"], self._folder, SIGNATURE, threads)
            self._references[threads] = self._held.enter_context(loaded)
        return self._references[threads]


def _in_turn(one: Loaded, other: Loaded, image: np.ndarray) -> tuple[list[float], list[float]]:
    """Return the milliseconds of both, in turns, after a few inferences that are not timed."""
    both: tuple[list[float], list[float]] = ([], [])
    for loaded in (one, other):
        loaded.clock(image, WARMUP)
    while len(both[0]) < REPEATS and (
        len(both[0]) < 2 * TURN or max(map(sum, both)) < 1000.0 * SECONDS
    ):
        for loaded, times in zip((one, other), both, strict=True):
            times.extend(loaded.clock(image, TURN))
    return both


def _quantiles(times: list[float]) -> dict[str, float]:
    median, p95 = np.quantile(times, [0.5, 0.95])
    return {"median_ms": float(median), "p95_ms": float(p95)}
