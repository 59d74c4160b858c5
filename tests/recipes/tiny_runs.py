"""Tiny runs, and a watcher of what happens in them."""

import contextlib
import json

import keras
import numpy as np

from kd_keras.config import DistillConfig
from kd_keras.recipes import distill, setup
from kd_keras.recipes.runs import RunFolder


class Watcher:
    """Stands where the progress bars stand, and keeps the student's state at every epoch.

    Attributes:
        log: by title (`"seed 0: alone"`), a list of states: one when `fit` begins a phase, and
            one at the end of each epoch.
    """

    def __init__(self):
        self.log = {}

    @contextlib.contextmanager
    def bar(self, title, epochs, images):
        yield Snapshots(self.log.setdefault(title, []))

    def say(self, sentence):
        pass

    def states(self, role, moment, seed=0):
        return [state for state in self.log[f"seed {seed}: {role}"] if state["moment"] == moment]


class Snapshots(keras.callbacks.Callback):
    def __init__(self, states):
        super().__init__()
        self._states = states

    def on_train_begin(self, logs=None):
        self._keep("begin", {})

    def on_epoch_end(self, epoch, logs=None):
        self._keep("epoch", logs)

    def _keep(self, moment, logs):
        student = getattr(self.model, "student", self.model)
        state = {
            "moment": moment,
            "rate": float(self.model.optimizer.learning_rate),
            "trainable": {v.path for v in student.trainable_variables},
            "weights": {v.path: np.array(v) for v in student.variables if "seed" not in v.path},
            "logs": {key: float(value) for key, value in logs.items()},
        }
        if hasattr(self.model, "alpha"):
            state["alpha"] = self.model.alpha
            state["temperature"] = getattr(self.model.method, "temperature", None)
        self._states.append(state)


def tiny(folder, **changes):
    """A run of the digits that takes seconds."""
    settings = {
        "teacher": "cnn",
        "teacher_knobs": ("width=0.25",),
        "student": "mlp",
        "student_knobs": ("hidden=8,",),
        "limit": 100,
        "epochs": 3,
        "batch_size": 16,
        "learning_rate": 3e-3,
        "steps_per_execution": 2,
        "seeds": (0,),
        "out": folder / "run",
        "export": folder / "student",
    }
    return DistillConfig(**{**settings, **changes})


def trial(config, *, task=None, seed=0):
    """The three trainings of one seed, without judging and export; the trial and its watcher."""
    watcher = Watcher()
    task = task or setup.load_task(config)
    done = distill._Trial(config, task, seed, RunFolder(config), watcher)
    done.train()
    return done, watcher


def lines(config):
    """The lines of `metrics.jsonl`."""
    text = (config.folder / "metrics.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def without_times(value):
    """Results or lines without what a clock measured, and where they were written."""
    clocks = ("seconds", "train_seconds", "latency_ms", "latency_unsure", "path")
    if isinstance(value, dict):
        return {k: without_times(v) for k, v in value.items() if k not in clocks}
    if isinstance(value, list):
        return [without_times(v) for v in value]
    return value


def same_weights(one, other):
    """Whether two models, or lists of weights, are the same to the last bit."""
    one, other = (x.get_weights() if isinstance(x, keras.Model) else x for x in (one, other))
    return len(one) == len(other) and all(
        np.array_equal(a, b) for a, b in zip(one, other, strict=True)
    )


class Interrupted(BaseException):
    """As Ctrl-C is: not an error that anybody handles."""


class InterruptAfter(keras.callbacks.Callback):
    def __init__(self, epoch):
        super().__init__()
        self._epoch = epoch

    def on_epoch_end(self, epoch, logs=None):
        if epoch + 1 == self._epoch:
            raise Interrupted
