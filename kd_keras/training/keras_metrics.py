"""Give each compiled metric the inputs that it needs: probabilities, logits or classes, and labels.

A student returns logits. Keras' metrics need different forms of labels and predictions, and only
their documentation says which: here each metric gets its own.
"""

import dataclasses
import inspect
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kd_keras.losses import are_class_numbers, class_numbers, distributions


@dataclasses.dataclass(frozen=True)
class Predictions:
    """Labels and logits of a batch, in every form that a metric may need.

    Attributes:
        labels: class numbers, shape `(batch,)` or `(batch, 1)`, or distributions, shape
            `(batch, classes)`.
        logits: float32, shape `(batch, classes)`.
        from_logits: whether the metric turns logits into probabilities itself.
    """

    labels: Any
    logits: Any
    from_logits: bool = False

    @property
    def classes(self):
        """The class of every label, shape `(batch,)`; for a distribution, the most likely one."""
        return class_numbers(ops.cast(self.labels, "float32"), self.logits)

    @property
    def one_hot(self):
        """The class of every label as 0 and 1, shape `(batch, classes)`."""
        return ops.one_hot(self.classes, self.logits.shape[-1], dtype="float32")

    @property
    def shares(self):
        """The labels as distributions, shape `(batch, classes)`."""
        return distributions(self.labels, self.logits)

    @property
    def scores(self):
        """Probabilities, or logits for a metric that takes them, shape `(batch, classes)`."""
        # not Keras' softmax: it attaches the logits to its output, and Keras' binary cross-entropy
        # takes them for logits of a sigmoid
        return self.logits if self.from_logits else tf.nn.softmax(self.logits)

    @property
    def second(self):
        """The score of class 1 of two classes, shape `(batch, 1)`."""
        if self.from_logits:  # the logit whose sigmoid is the probability
            return self.logits[:, 1:] - self.logits[:, :1]
        return self.scores[:, 1:]

    @property
    def binary(self) -> bool:
        """True if there are two classes."""
        return self.logits.shape[-1] == 2


# A form takes the metric and the `Predictions`, and returns the labels and predictions to compare.


def _number_and_ranks(metric, predictions):
    return predictions.classes, predictions.logits


def _number_and_scores(metric, predictions):
    return predictions.classes, predictions.scores


def _two_numbers(metric, predictions):
    return predictions.classes, ops.argmax(predictions.logits, axis=-1)


def _shares_and_ranks(metric, predictions):
    return predictions.shares, predictions.logits


def _shares_and_scores(metric, predictions):
    return predictions.shares, predictions.scores


def _one_hot_and_scores(metric, predictions):
    return predictions.one_hot, predictions.scores


def _class_1(metric, predictions):
    """Compare class 1 of two classes, as in scikit-learn; of more, each class against the rest."""
    chosen = [getattr(metric, name, None) for name in ("class_id", "top_k")]
    each = chosen != [None, None] or getattr(metric, "multi_label", False)  # one column per class
    if predictions.binary and not each:
        return predictions.one_hot[:, 1:], predictions.second
    return predictions.one_hot, predictions.scores


def _share_of_class_1(metric, predictions):
    if predictions.binary:
        return predictions.shares[:, 1:], predictions.second
    return predictions.shares, predictions.scores


def _margin(metric, predictions):
    raw = dataclasses.replace(predictions, from_logits=True)
    return _class_1(metric, raw)


def _margin_to_the_next(metric, predictions):
    # Keras replaces the largest other score by 0 if it is negative; only the differences count
    lowest = ops.min(predictions.logits, axis=-1, keepdims=True)
    return predictions.one_hot, predictions.logits - lowest


def _overlap(metric, predictions):
    truth = predictions.classes if metric.sparse_y_true else predictions.one_hot
    chosen = ops.argmax(predictions.logits, axis=-1) if metric.sparse_y_pred else predictions.logits
    return truth, chosen


Form = Callable[[Any, Predictions], tuple[Any, Any]]

FORMS: dict[type, Form] = {
    # the class alone matters
    keras.metrics.Accuracy: _two_numbers,
    keras.metrics.CategoricalAccuracy: _shares_and_ranks,
    keras.metrics.SparseCategoricalAccuracy: _number_and_ranks,
    keras.metrics.TopKCategoricalAccuracy: _shares_and_ranks,
    keras.metrics.SparseTopKCategoricalAccuracy: _number_and_ranks,
    keras.metrics.IoU: _overlap,
    keras.metrics.MeanIoU: _overlap,
    keras.metrics.OneHotIoU: _overlap,
    keras.metrics.OneHotMeanIoU: _overlap,
    # a probability is compared with a threshold
    keras.metrics.BinaryAccuracy: _class_1,
    keras.metrics.BinaryIoU: _class_1,
    keras.metrics.AUC: _class_1,
    keras.metrics.FalseNegatives: _class_1,
    keras.metrics.FalsePositives: _class_1,
    keras.metrics.TrueNegatives: _class_1,
    keras.metrics.TruePositives: _class_1,
    keras.metrics.Precision: _class_1,
    keras.metrics.Recall: _class_1,
    keras.metrics.PrecisionAtRecall: _class_1,
    keras.metrics.RecallAtPrecision: _class_1,
    keras.metrics.SensitivityAtSpecificity: _class_1,
    keras.metrics.SpecificityAtSensitivity: _class_1,
    keras.metrics.F1Score: _one_hot_and_scores,
    keras.metrics.FBetaScore: _one_hot_and_scores,
    # distributions are compared
    keras.metrics.BinaryCrossentropy: _share_of_class_1,
    keras.metrics.CategoricalCrossentropy: _shares_and_scores,
    keras.metrics.SparseCategoricalCrossentropy: _number_and_scores,
    keras.metrics.KLDivergence: _shares_and_scores,
    keras.metrics.Poisson: _shares_and_scores,
    keras.metrics.MeanSquaredError: _shares_and_scores,
    keras.metrics.RootMeanSquaredError: _shares_and_scores,
    keras.metrics.MeanAbsoluteError: _shares_and_scores,
    keras.metrics.MeanAbsolutePercentageError: _shares_and_scores,
    keras.metrics.MeanSquaredLogarithmicError: _shares_and_scores,
    keras.metrics.LogCoshError: _shares_and_scores,
    keras.metrics.CosineSimilarity: _shares_and_scores,
    keras.metrics.R2Score: _shares_and_scores,
    keras.metrics.ConcordanceCorrelation: _shares_and_scores,
    keras.metrics.PearsonCorrelation: _shares_and_scores,
    # the margin of the right class over the others, in logits
    keras.metrics.Hinge: _margin,
    keras.metrics.SquaredHinge: _margin,
    keras.metrics.CategoricalHinge: _margin_to_the_next,
}
# Keras' functions, which serve as losses too, by their names in `keras.metrics` and `keras.losses`
FUNCTIONS: dict[str, Form] = {
    "binary_accuracy": _class_1,
    "binary_crossentropy": _share_of_class_1,
    "binary_focal_crossentropy": _share_of_class_1,
    "categorical_accuracy": _shares_and_ranks,
    "categorical_crossentropy": _shares_and_scores,
    "categorical_focal_crossentropy": _shares_and_scores,
    "categorical_generalized_cross_entropy": _number_and_scores,
    "categorical_hinge": _margin_to_the_next,
    "concordance_correlation": _shares_and_scores,
    "cosine_similarity": _shares_and_scores,
    "dice": _shares_and_scores,
    "hinge": _margin,
    "huber": _shares_and_scores,
    "kl_divergence": _shares_and_scores,
    "log_cosh": _shares_and_scores,
    "mean_absolute_error": _shares_and_scores,
    "mean_absolute_percentage_error": _shares_and_scores,
    "mean_squared_error": _shares_and_scores,
    "mean_squared_logarithmic_error": _shares_and_scores,
    "pearson_correlation": _shares_and_scores,
    "poisson": _shares_and_scores,
    "sparse_categorical_accuracy": _number_and_ranks,
    "sparse_categorical_crossentropy": _number_and_scores,
    "sparse_top_k_categorical_accuracy": _number_and_ranks,
    "squared_hinge": _margin,
    "top_k_categorical_accuracy": _shares_and_ranks,
    "tversky": _shares_and_scores,
}


def told(metrics: Any) -> Any:
    """Adapt the `metrics` or `weighted_metrics` given to `compile` to logits.

    Keras' own metrics, given by name, as an object, a class or a function, get the form that they
    compare, whichever form the labels of a batch have. `"accuracy"` is the share of right classes.
    Any other metric or function gets the labels, in the form of the first batch, and logits, or
    probabilities if its `from_logits` is, or defaults to, False.

    Args:
        metrics: None, or a list, tuple or dict of metrics, nested or not.

    Raises:
        ValueError: for an unknown name, a metric that compares nothing, or a threshold of 0, which
            every probability exceeds.
    """
    if not isinstance(metrics, (list, tuple, dict)):
        return metrics  # Keras reports invalid types
    return keras.tree.map_structure(_told, metrics)


def _told(given: Any) -> Any:
    if isinstance(given, str) and given.lower() in ("accuracy", "acc"):
        return Told(keras.metrics.SparseCategoricalAccuracy(name=given), _number_and_ranks)
    metric = given if given is None else keras.metrics.get(given)
    if metric is None:
        return None  # Keras reports invalid types
    form, from_logits = form_of(metric), _from_logits(metric)
    if isinstance(given, str):
        metric.name = given
    if form is None:
        return _own(metric, from_logits)
    if not isinstance(metric, keras.metrics.Metric):
        name = getattr(metric, "name", None) or getattr(metric, "__name__", type(metric).__name__)
        metric = keras.metrics.MeanMetricWrapper(metric, name=name)
    _check_threshold(metric)
    return Told(metric, form, bool(from_logits))


def _own(metric: Any, from_logits: bool | None) -> Any:
    """Wrap a custom metric or function, so that it gets labels of one form."""
    kind = _Kind()

    def seen(_, predictions):
        labels = kind.of(predictions.labels, predictions.logits)
        return labels, predictions.scores if from_logits is False else predictions.logits

    if isinstance(metric, keras.metrics.Metric):
        return Told(metric, seen, raw=True)

    def function(y_true, y_pred):
        return metric(*seen(metric, Predictions(y_true, y_pred)))

    function.__name__ = type(metric).__name__
    for name in ("name", "__name__"):  # by which Keras names it
        if hasattr(metric, name):
            setattr(function, name, getattr(metric, name))
    return function


class _Kind:
    """The form of the first labels, class numbers or distributions; later ones are converted."""

    def __init__(self):
        self.numbers: bool | None = None

    def of(self, labels, logits):
        numbers = are_class_numbers(labels, logits)
        if self.numbers is None:
            self.numbers = numbers
        if numbers == self.numbers:
            return labels
        return distributions(labels, logits) if numbers else class_numbers(labels, logits)


def form_of(metric: Any) -> Form | None:
    """Return the form that a metric compares; None for one that is not Keras' own.

    Args:
        metric: a Keras metric or loss, or a function.

    Raises:
        ValueError: for a metric that does not compare labels with predictions.
    """
    function = metric
    if isinstance(metric, keras.metrics.Metric):
        kinds = type(metric).__mro__
        reads = next(kind for kind in kinds if "update_state" in vars(kind))
        if reads in (keras.metrics.Mean, keras.metrics.Sum):
            raise ValueError(
                "`metrics` must compare labels with predictions. Received: "
                f"{type(metric).__name__}, which aggregates single numbers"
            )
        known = [FORMS[kind] for kind in kinds if kind in FORMS]
        if known and reads.__module__.startswith("keras."):
            return known[0]
        function = (
            getattr(metric, "_fn", None) if reads is keras.metrics.MeanMetricWrapper else None
        )
    function = getattr(function, "fn", function)  # of a loss
    name = getattr(function, "__name__", "")
    homes = (keras.metrics, keras.losses)
    if name in FUNCTIONS and any(getattr(home, name, None) is function for home in homes):
        return FUNCTIONS[name]
    return None


def _from_logits(metric: Any) -> bool | None:
    """Return whether a metric takes logits; None if it does not specify this."""
    for name in ("from_logits", "_from_logits"):
        if hasattr(metric, name):
            return bool(getattr(metric, name))
    if isinstance(metric, keras.losses.Loss):
        return metric.get_config().get("from_logits")
    function = metric
    if isinstance(metric, keras.metrics.Metric):
        function = getattr(metric, "_fn", None)
        options = getattr(metric, "_fn_kwargs", {})
        if "from_logits" in options:
            return bool(options["from_logits"])
    if not callable(function):
        return None
    parameter = inspect.signature(function).parameters.get("from_logits")
    return None if parameter is None else parameter.default is True


def _check_threshold(metric: keras.metrics.Metric) -> None:
    for name in ("thresholds", "threshold"):
        given = getattr(metric, name, None)
        if given is not None and np.all(np.asarray(given) == 0):
            raise ValueError(
                "`metrics` are given probabilities, and all of them exceed a threshold of 0. Leave "
                f"`{name}` out for 0.5. Received: {type(metric).__name__}({name}={given})"
            )


class Told(keras.metrics.Metric):
    """A metric that gets its own form of labels and predictions, instead of labels and logits.

    Args:
        metric: the user's metric, which holds the state.
        form: the form that it compares.
        from_logits: whether it turns logits into probabilities itself.
        raw: whether logits and weights are passed in the dtype and shape that they have.
    """

    def __init__(self, metric: keras.metrics.Metric, form: Form, from_logits=False, raw=False):
        super().__init__(name=metric.name)
        self.metric, self._form, self._logits, self._raw = metric, form, from_logits, raw
        if hasattr(metric, "_direction"):  # tells callbacks which of two values is better
            self._direction = metric._direction

    def update_state(self, y_true, y_pred, sample_weight=None):
        if not self._raw:
            y_true, y_pred = ops.convert_to_tensor(y_true), ops.cast(y_pred, "float32")
            if sample_weight is not None:
                sample_weight = ops.reshape(sample_weight, (-1,))
        seen = self._form(self.metric, Predictions(y_true, y_pred, self._logits))
        return self.metric.update_state(*seen, sample_weight=sample_weight)

    def result(self):
        return self.metric.result()

    def reset_state(self):
        self.metric.reset_state()
