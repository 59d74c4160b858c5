"""Objectives, which a training step minimises."""

import inspect
from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
from keras import ops

from kd_keras import losses
from kd_keras.teachers import TeacherSource


class Objective(keras.layers.Layer):
    """Computes named losses of each example from a batch and the student's features on it.

    It is a layer, so that Keras trains and saves its weights. It does not run the student: the
    trainer passes it the student's features, a dict from tap to tensor.

    Attributes:
        parts: names of the losses that are logged beside `loss`.
        student_taps: the taps of the student that it needs in training, beside its logits.
        idle: ids of weights that need not have a gradient.
        label_loss: the loss on the labels, `(labels, logits) -> (batch,)`; `compile` sets it.
    """

    parts: tuple[str, ...] = ()
    student_taps: tuple[str, ...] = ()
    idle: frozenset[int] = frozenset()

    def __init__(self, **kwargs):
        super().__init__(**{"dtype": "float32", **kwargs})
        self.label_loss = losses.cross_entropy
        self.built = True

    def losses_of(self, batch: Mapping[str, Any], student: Any) -> dict[str, Any]:
        """Return `loss`, which is minimised, and its parts, each of shape `(batch,)`.

        Args:
            batch: all that is known of the examples, such as `image`, `label` and `index`.
            student: the features of the student in training mode, a dict from tap to tensor.
        """
        raise TypeError(f"{type(self).__name__} must override `losses_of`.")

    def logits(self, student: Any) -> Any:
        """Return the deployed model's logits, shape `(batch, classes)`, from the student's taps."""
        return student["logits"]

    def sources(self) -> dict[str, TeacherSource]:
        """Return the sources whose predictions are joined to batches, by their name in a batch."""
        return {}

    # --- before training ---

    def check_examples(self, x: Any, y: Any) -> None:
        """Raise `ValueError` for examples that cannot be learned from."""

    def check_batch_size(self, size: int | None) -> None:
        """Raise `ValueError` for batches of too few examples per device; None means unknown."""

    def check_batch(self, batch: Mapping[str, Any]) -> None:
        """Raise `ValueError` for a batch that lacks an entry it needs, such as labels."""
        if "label" not in batch:
            raise ValueError("Training on labels needs labels. Received: y=None")

    def adapt_labels(self, labels: np.ndarray) -> None:
        """Look at the labels of all training examples, before training."""

    def adapt_predictions(self, stored: Mapping[str, Any]) -> None:
        """Look at stored predictions of the sources, by name and tap, before training."""

    def begin_epoch(self, epoch: int) -> None:
        """Set the values that follow a schedule; epochs are counted from 0."""


class LabelObjective(Objective):
    """Learning from labels alone."""

    def losses_of(self, batch, student):
        return {"loss": self.label_loss(batch["label"], student["logits"])}


def label_loss(loss):
    """Return a function `(labels, logits) -> (batch,)` for the loss given to `compile`.

    Args:
        loss: None for cross-entropy on logits; or a Keras loss, its name, or a function.

    Raises:
        ValueError: for a loss that expects probabilities.
    """
    if loss is None:
        return losses.cross_entropy
    given = keras.losses.get(loss)
    if _expects_probabilities(given):
        raise ValueError(
            "`loss` gets the student's logits, but this one expects probabilities. Leave `loss` "
            "out for cross-entropy on logits, or pass a loss made with from_logits=True. "
            f"Received: loss={loss!r}"
        )
    function = given.call if isinstance(given, keras.losses.Loss) else given
    dense, sparse = _takes(given)

    def per_example(labels, logits):
        logits = ops.cast(logits, "float32")
        if dense:
            labels = losses.distributions(labels, logits)
        elif sparse and not losses.are_class_numbers(labels, logits):
            raise ValueError(
                "`loss` takes class numbers, but the labels are distributions. Leave `loss` out "
                "for cross-entropy, which takes either, or pass one that compares distributions. "
                f"Received: loss={loss!r}"
            )
        values = ops.convert_to_tensor(function(labels, logits))
        if len(values.shape) == 0:
            raise ValueError("`loss` must return one number per example. Received: a single number")
        return ops.mean(ops.reshape(values, (ops.shape(values)[0], -1)), axis=-1)

    return per_example


def _expects_probabilities(loss) -> bool:
    """Return whether `from_logits` is, or defaults to, False, or the loss is the KL divergence."""
    function = getattr(loss, "fn", loss)
    if function is keras.losses.kl_divergence:
        return True
    if isinstance(loss, keras.losses.Loss):
        return loss.get_config().get("from_logits") is False
    parameter = inspect.signature(function).parameters.get("from_logits")
    return parameter is not None and parameter.default is False


def _takes(loss) -> tuple[bool, bool]:
    """Return whether this is Keras' own loss on distributions, and whether on class numbers."""
    function = getattr(loss, "fn", loss)
    name = getattr(function, "__name__", type(function).__name__)
    ours = getattr(function, "__module__", "").startswith("keras.")
    sparse = "sparse" in name.lower()
    return ours and not sparse, ours and sparse
