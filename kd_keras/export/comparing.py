"""How far an export's logits are from its model's, and whether that is near enough."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from kd_keras.evaluation import paired
from kd_keras.evaluation.metrics import METRICS
from kd_keras.evaluation.predictions import Predictions
from kd_keras.export.quantization import Quantization


@dataclasses.dataclass(frozen=True)
class Comparison:
    """The difference between a model's logits and its export's, on the same images.

    Attributes:
        examples: the number of images.
        max_abs_difference, mean_abs_difference: of a logit.
        agreement: the share of images for which both choose the same class.
        largest: the largest absolute logit of the model.
    """

    examples: int
    max_abs_difference: float
    mean_abs_difference: float
    agreement: float
    largest: float

    @classmethod
    def of(cls, want: np.ndarray, got: np.ndarray) -> "Comparison":
        """Compare the model's logits with the export's, both of shape `(n, classes)`.

        Raises:
            RuntimeError: the shapes differ, or some logits are not finite.

        Example:
            >>> Comparison.of(np.array([[1.0, 0.0]]), np.array([[0.5, 1.0]])).agreement
            0.0
        """
        if want.shape != got.shape:
            raise RuntimeError(
                f"The export's logits have shape {got.shape}, but the model's have {want.shape}. "
                "Nothing was written."
            )
        for whose, logits in (("model", want), ("export", got)):
            bad = int((~np.isfinite(logits)).any(axis=1).sum())
            if bad:
                raise RuntimeError(
                    f"The {whose}'s logits are not finite on {bad} of {len(logits)} images. "
                    "Nothing was written."
                )
        gaps = np.abs(want - got)
        return cls(
            examples=len(want),
            max_abs_difference=float(gaps.max()),
            mean_abs_difference=float(gaps.mean()),
            agreement=float((want.argmax(axis=1) == got.argmax(axis=1)).mean()),
            largest=float(np.abs(want).max()),
        )

    def check(self, bounds: "Bounds") -> None:
        """Raise `RuntimeError`, with the figure, if the export is too far from the model."""
        if bounds.tolerance is not None:
            allowed = bounds.tolerance * max(1.0, self.largest)
            if self.max_abs_difference > allowed:
                raise RuntimeError(
                    "The export's predictions differ from the model's: logits differ by up to "
                    f"{self.max_abs_difference:g} on {self.examples} images, but only {allowed:g} "
                    "is allowed. Nothing was written."
                )
        if bounds.agreement is not None and self.agreement < bounds.agreement:
            raise RuntimeError(
                f"The export chooses the model's class for only {self.agreement:.2%} of "
                f"{self.examples} images, but {bounds.agreement:.2%} is wanted. Nothing was "
                "written. `min_agreement` (--min-agreement) lowers the bound."
            )


@dataclasses.dataclass(frozen=True)
class Bounds:
    """What an export must keep of its model.

    Attributes:
        agreement: the least share of images with the same class; None if it is not asked for.
        tolerance: the largest difference of a logit, as a share of the largest logit or of one,
            whichever is larger; None if it is not asked for.
    """

    agreement: float | None = None
    tolerance: float | None = None

    @classmethod
    def of(
        cls, quantization: Quantization, agreement: float | None, tolerance: float | None
    ) -> "Bounds":
        """Return the bounds of a quantization, with those that the caller has given.

        Args:
            quantization: one without a bound of agreement is held to the tolerance.
            agreement: in place of the quantization's; None keeps it.
            tolerance: of a logit.
        """
        held = tolerance if quantization.agreement is None else None
        return cls(quantization.agreement if agreement is None else agreement, held)


@dataclasses.dataclass(frozen=True)
class Judge:
    """The labels and the metric by which an export is judged beside its model.

    Attributes:
        metric: a name in `evaluation.METRICS`, of a metric that needs no teacher.
        labels: shape `(n,)`, the classes of the images that are compared.
        split: where the images are from, for people.

    Example:
        >>> judge = Judge("accuracy", np.array([0, 1]), "test")
        >>> found = judge(np.eye(2), np.array([[1.0, 0.0], [1.0, 0.0]]))
        >>> found["model"], found["export"], found["difference"]
        (1.0, 0.5, -0.5)
    """

    metric: str
    labels: np.ndarray
    split: str

    def __call__(self, want: np.ndarray, got: np.ndarray) -> dict[str, Any]:
        """Return the metric of the model and of the export, and what the export has lost.

        Args:
            want, got: the logits of the model and of the export, shape `(n, classes)`.

        Returns:
            `metric`, `split`; `model` and `export`, the values; `difference`, export minus model,
            with `interval`, `confidence` and `resamples` as `paired.difference` gives them. Where
            the labels leave the metric undefined, the values and the interval are None.
        """
        value = METRICS[self.metric].function
        model, export = (value(Predictions.of(logits, self.labels)) for logits in (want, got))
        found: Mapping[str, Any] = {"difference": None, "interval": None}
        if model is not None and export is not None:
            found = paired.difference(self.metric, [got], [want], self.labels)
        kept = ("difference", "interval", "confidence", "resamples")
        return {
            "metric": self.metric,
            "split": self.split,
            "model": model,
            "export": export,
            **{name: found.get(name) for name in kept},
        }
