"""Turn the arguments of `fit` into the inputs of a training."""

import dataclasses
import types
from typing import Any

import numpy as np
import tensorflow as tf

from kd_keras.training import batches, feed, joining
from kd_keras.training.checking import InputChecker, Pipeline, is_examples
from kd_keras.training.joining import Joined, Joiner

KERAS_OWN = ("validation_split", "class_weight", "steps_per_epoch")


@dataclasses.dataclass(frozen=True)
class Examples:
    """The arguments of `fit`, converted and checked.

    Attributes:
        x: arrays, or a pipeline.
        y: labels as an array; None in a pipeline, or without labels.
        batch_size: examples per batch.
        own: whether `x` is the library's own pipeline, whose labels were checked before.
        options: further arguments of `keras.Model.fit`, such as `sample_weight`.
    """

    x: Any
    y: Any
    batch_size: int
    own: bool
    options: dict[str, Any]

    @classmethod
    def of(
        cls, x: Any, y: Any, batch_size: int | None, options: dict[str, Any], checker: InputChecker
    ) -> "Examples":
        """Check the arguments of `fit`.

        Raises:
            ValueError: for invalid images, labels or weights.
        """
        own = isinstance(x, Pipeline)
        x = x.dataset if own else x
        x, y, weight = checker.examples(x, y, options.get("sample_weight"))
        options = dict(options)
        if weight is not None:
            options["sample_weight"] = weight
        if options.get("validation_data") is not None:
            options["validation_data"] = checker.validation_data(options["validation_data"])
        return cls(x, y, batch_size or 32, own, options)

    def labels(self, names: Any) -> np.ndarray | None:
        """Return the labels of the training examples, by their index; None if not known.

        Args:
            names: of the inputs of the student, if it takes several.
        """
        if self.y is None or not is_examples(self.x) or batches.is_batch(self.x, names):
            return None
        known = self.y.reshape(-1) if self.y.shape[1:] == (1,) else self.y
        share = self.options.get("validation_split") or 0.0  # Keras takes them from the end
        return known[: int(np.floor(len(self.y) * (1.0 - share)))]


@dataclasses.dataclass(frozen=True)
class FitInputs:
    """The inputs of a training.

    Attributes:
        x, y: as Keras' `fit` takes them.
        options: further arguments of Keras' `fit`.
        joined: the stored predictions and features of the examples.
        steps: batches per epoch; None if not known.
        counted: whether the epochs follow each other in one endless pipeline, so that the steps of
            each have to be counted.
        one_by_one: whether Keras must run single steps, since it counts them itself.
    """

    x: Any
    y: Any
    options: dict[str, Any]
    joined: Joined
    steps: int | None
    counted: bool
    one_by_one: bool

    def ending(self, epochs: int, per_call: int) -> Any:
        """Return `x` with an end that training never reaches.

        Trackers of experiments, such as MLflow, walk through the data of `fit`. Keras counts the
        last call of an epoch as a whole one, and warns if it has counted past the end.

        Args:
            epochs: the number of epochs of this `fit`.
            per_call: the number of steps per call.
        """
        if not self.counted or self.steps is None:
            return self.x
        return self.x.take(epochs * (self.steps + per_call) + 1)


def prepare(
    examples: Examples,
    checker: InputChecker,
    joiner: Joiner,
    names: Any,
    *,
    single: bool,
) -> FitInputs:
    """Join examples with their stored predictions and features, and make a pipeline of arrays.

    Args:
        examples: as given to `fit`.
        checker: checks the batches of a pipeline.
        joiner: joins the stored rows.
        names: of the inputs of the student, if it takes several.
        single: whether a single device trains.
    """
    x, y, options = examples.x, examples.y, dict(examples.options)
    joined = joining.Joined()
    if is_examples(x) and not batches.is_batch(x, names):
        joined = joiner(x)
        options = joiner.with_validation(joined, options)
        x = joined.batch
    elif batches.FEATURES in batches.names_in(x):
        joined = joiner.of_features()
    if not examples.own:
        x = checker.batches(x)
    plain = isinstance(x, dict) and not any(options.get(name) for name in KERAS_OWN)
    if plain and single and options.get("shuffle", True) in (True, False):
        weight, shuffle = options.pop("sample_weight", None), options.pop("shuffle", True)
        fed = feed.Feed.of(x, y, weight, batch_size=examples.batch_size, shuffle=shuffle)
        x, y, options["steps_per_epoch"] = fed.dataset, None, fed.steps
    endless = isinstance(x, tf.data.Dataset) and x.cardinality() == tf.data.INFINITE_CARDINALITY
    asked = options.get("steps_per_epoch")
    counted = bool(asked and endless and single)
    if isinstance(x, (tf.data.Dataset, types.GeneratorType)):
        options.setdefault("shuffle", False)  # Keras cannot shuffle these, and warns
    return FitInputs(
        x=x,
        y=y,
        options=options,
        joined=joined,
        steps=batches.steps_an_epoch(x, examples.batch_size, options),
        counted=counted,
        one_by_one=bool((asked and not counted) or options.get("validation_steps")),
    )
