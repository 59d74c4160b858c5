"""Callbacks of a training, such as validation and checkpoints."""

import dataclasses
import logging
import math
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from kd_keras.data.task import Split
from kd_keras.evaluation import quality
from kd_keras.recipes.optimizers import averaged
from kd_keras.recipes.saving import save_weights
from kd_keras.training.divergence import diverged
from kd_keras.utils import files, interrupts, records

log = logging.getLogger(__name__)

STATE = "state.json"
LAYOUT = 2  # version of the weights in a checkpoint: 2 since a trainer holds an objective
SHAPE = {
    "stem": str,
    "epochs": int,
    "best_epoch": int,
    "best_score": float,
    "random": list,
    "seconds": float,
    "digests": dict,
}


@dataclasses.dataclass
class Best:
    """The best epoch so far, by the task's metric on validation."""

    epoch: int = 0
    score: float = -math.inf
    weights: list[np.ndarray] | None = None


class Validation(keras.callbacks.Callback):
    """Evaluates the model after each epoch, stores the best weights and writes to the journal.

    Stops the training if the weights after an epoch's last step give NaN or infinite predictions.

    Args:
        role: names the training in an error.
        model: the model whose weights are stored: in distillation, the student.
        predict: runs the evaluated model over a split.
        split: the validation split.
        metric: a metric of `evaluation.quality`, larger is better.
        best: updated after each epoch.
        journal: called with the epoch's numbers.
        last: store the last epoch's weights instead of the best epoch's.
    """

    def __init__(
        self,
        role: str,
        model,
        predict: Callable,
        split: Split,
        metric: str,
        best: Best,
        journal: Callable,
        last: bool = False,
    ):
        super().__init__()
        self._role = role
        self._judged, self._split, self._metric = model, split, metric
        self._best, self._journal = best, journal
        self._predict, self._last = predict, last
        self._start = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start
        logits = self._predict(self._split)
        if not np.isfinite(logits).all():
            step = self.params["steps"]
            raise diverged(self._role, "a prediction on validation", epoch, step, self.model)
        score = quality.score(self._metric, logits, self._split.labels)
        if score > self._best.score or self._last:
            self._best.epoch, self._best.score = epoch + 1, score
            self._best.weights = self._judged.get_weights()
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self._journal(
            {
                "epoch": epoch + 1,
                **numbers,
                "validation": {self._metric: score},
                "seconds": round(seconds, 4),
            }
        )


class Last(keras.callbacks.Callback):
    """Replaces `Validation` if validation chooses no epoch: stores the last epoch's weights.

    Args:
        model: the model whose weights are stored.
        best: updated after each epoch; it has no score.
        journal: called with the epoch's numbers.
    """

    def __init__(self, model, best: Best, journal: Callable):
        super().__init__()
        self._kept, self._best, self._journal = model, best, journal
        self._start = 0.0

    def on_epoch_begin(self, epoch, logs=None):
        self._start = time.perf_counter()

    def on_epoch_end(self, epoch, logs=None):
        seconds = time.perf_counter() - self._start
        self._best.epoch, self._best.score = epoch + 1, math.nan
        self._best.weights = self._kept.get_weights()
        numbers = {name: float(value) for name, value in (logs or {}).items()}
        self._journal({"epoch": epoch + 1, **numbers, "seconds": round(seconds, 4)})


class OnAverages(keras.callbacks.Callback):
    """Calls another callback with the optimizer's averages in place of the trained weights.

    Args:
        judge: a `Validation` or a `Last`.
    """

    def __init__(self, judge: keras.callbacks.Callback):
        super().__init__()
        self._judge = judge

    def set_model(self, model):
        super().set_model(model)
        self._judge.set_model(model)

    def set_params(self, params):
        super().set_params(params)
        self._judge.set_params(params)

    def on_epoch_begin(self, epoch, logs=None):
        self._judge.on_epoch_begin(epoch, logs)

    def on_epoch_end(self, epoch, logs=None):
        with averaged(self.model):
            self._judge.on_epoch_end(epoch, logs)


class EarlyStop(keras.callbacks.Callback):
    """Ends a training when its best epoch is a number of epochs ago.

    It keeps no state: a training that resumes ends at the same epoch.

    Args:
        role: names the training in the log.
        best: the best epoch so far. If no epoch is chosen, it is the last one, and nothing ends.
        patience: the number of epochs; None never ends a training.
        first: the epochs before this one, those of the head, do not count.
    """

    def __init__(self, role: str, best: Best, patience: int | None, first: int = 0):
        super().__init__()
        self._role, self._best, self._patience, self._first = role, best, patience, first

    def reached(self, epochs: int) -> bool:
        """Return whether the training ends after this number of epochs."""
        if self._patience is None:
            return False
        return epochs - max(self._best.epoch, self._first) >= self._patience

    def on_epoch_end(self, epoch, logs=None):
        if self.reached(epoch + 1):
            self.model.stop_training = True
            log.info(
                "%s stops after epoch %d: validation has not improved for %d epochs.",
                *(self._role, epoch + 1, self._patience),
            )


class Checkpoint(keras.callbacks.Callback):
    """Writes what is needed to resume, at the end of an epoch, at most once per `every` seconds.

    The files of a checkpoint are named after its epoch. The state is written last and lists them
    with their digests, so that a kill at any moment leaves a whole checkpoint.

    Args:
        folder: the folder of the checkpoint.
        best: the best epoch, written and restored with the checkpoint.
        every: the minimum number of seconds between checkpoints.
        sync: called before each checkpoint; forces to disk what it must not be ahead of.

    Attributes:
        epochs: the number of epochs trained before the last checkpoint; 0 if there is none.
        at_end: whether a checkpoint is written at the end of `fit`, however old the last one is. It
            holds the weights as they were trained, and not their averages.

    Raises:
        DamagedFile: the existing checkpoint is not what was written.
    """

    def __init__(
        self,
        folder: Path,
        best: Best,
        every: float = 10.0,
        sync: Callable[[], None] = lambda: None,
    ):
        super().__init__()
        self._folder, self._best, self._every, self._sync = folder, best, every, sync
        folder.mkdir(parents=True, exist_ok=True)
        state_file = folder / STATE
        self._state = records.read_signed(state_file, SHAPE) if state_file.exists() else {}
        records.check_digests(folder, self._state.get("digests", {}))
        if self._state.get("layout", LAYOUT if not self._state else 1) != LAYOUT:
            reason = "it was written by an earlier version of kd_keras"
            raise records.DamagedFile(state_file, reason)
        self.epochs: int = self._state.get("epochs", 0)
        self.at_end = False
        self._start = self._last = time.monotonic()

    def seconds(self) -> float:
        """Return the seconds spent on this training, interrupted runs included."""
        return self._state.get("seconds", 0.0) + time.monotonic() - self._start

    def on_epoch_end(self, epoch, logs=None):
        due = time.monotonic() - self._last >= self._every
        if due or (self.at_end and self._ends(epoch)):
            self.write(epoch + 1)

    def _ends(self, epoch: int) -> bool:
        return self.model.stop_training or epoch + 1 == self.params["epochs"]

    def write(self, epochs: int) -> None:
        """Write a checkpoint of the model that `fit` trains, after this number of epochs."""
        if epochs == self.epochs:
            return
        stem = f"epoch-{epochs:05d}"
        weights, best = f"{stem}.weights.h5", f"{stem}.best.npz"
        self._sync()
        save_weights(self.model, self._folder / weights)
        with files.whole_file(self._folder / best) as temporary:
            np.savez(temporary, *(self._best.weights or []))
        state = {
            "layout": LAYOUT,
            "stem": stem,
            "epochs": epochs,
            "best_epoch": self._best.epoch,
            "best_score": self._best.score,
            "random": [np.array(state).tolist() for state in _random_states(self.model)],
            "seconds": self.seconds(),
            "digests": {name: records.digest_of(self._folder / name) for name in (weights, best)},
        }
        records.write_signed(self._folder / STATE, state)
        self.epochs = epochs
        for old in self._folder.glob("epoch-*"):
            if not old.name.startswith(stem):
                old.unlink()
        self._last = time.monotonic()

    def restore(self, trainer) -> None:
        """Restore `trainer`, its optimizer and the best epoch from the last checkpoint."""
        stem = self._state["stem"]
        weights = self._folder / f"{stem}.weights.h5"
        with records.reading(weights):
            trainer.load_weights(weights)
        for state, value in zip(_random_states(trainer), self._state["random"], strict=True):
            state.assign(value)
        self._best.weights = records.read_arrays(self._folder / f"{stem}.best.npz")
        self._best.epoch = self._state["best_epoch"]
        self._best.score = self._state["best_score"]


class Interruptible(keras.callbacks.Callback):
    """Raises the exception of Ctrl-C or SIGTERM again, in case it was dropped."""

    coarse = True  # a call may cover several steps

    def on_train_batch_end(self, batch, logs=None):
        interrupts.check()

    def on_epoch_end(self, epoch, logs=None):
        interrupts.check()


def _random_states(trainer: keras.Model) -> list:
    """Return the variables that decide the next dropout; Keras does not save them with weights."""
    return [v for v in trainer.variables if v.name == "seed_generator_state"]
