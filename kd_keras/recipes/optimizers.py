"""The optimizer and the loss on labels of a run: Keras' own, with the settings of its config."""

import contextlib
import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import keras
import numpy as np

from kd_keras.config import BudgetConfig
from kd_keras.utils.checks import lookup

# where Keras' defaults are not what is commonly used
COMMON: dict[str, dict[str, Any]] = {
    "sgd": {"momentum": 0.9, "nesterov": True},
    "muon": {"exclude_layers": ["logits"]},  # Keras advises AdamW for the last layer
}
# of biases and of normalisation, if they have more than one dimension
NOT_DECAYED = ("bias", "gamma", "beta")


def known() -> dict[str, type[keras.optimizers.Optimizer]]:
    """Return all optimizers of `keras.optimizers` that need no more than a learning rate, by name.

    Example:
        >>> names = list(known())
        >>> "adamw" in names, "lion" in names, "lossscaleoptimizer" in names
        (True, True, False)
    """
    found = {name.lower(): kind for name, kind in vars(keras.optimizers).items() if _complete(kind)}
    return dict(sorted(found.items()))


def _complete(kind: Any) -> bool:
    """Return whether this is an optimizer of which every argument has a default."""
    if not (isinstance(kind, type) and issubclass(kind, keras.optimizers.Optimizer)):
        return False
    parameters = inspect.signature(kind).parameters
    named = [one for one in parameters.values() if one.kind is one.POSITIONAL_OR_KEYWORD]
    return "learning_rate" in parameters and all(one.default is not one.empty for one in named)


def new(
    budget: BudgetConfig, rate: float, weights: Sequence[keras.Variable]
) -> keras.optimizers.Optimizer:
    """Return a new optimizer.

    Args:
        budget: names it, and gives its weight decay, the norm to which gradients are clipped, and
            the momentum of the averages of the weights. What is not given is left to Keras.
        rate: the learning rate.
        weights: the weights that it will train. Biases and normalisation are not decayed.

    Raises:
        ValueError: there is no such optimizer.

    Example:
        >>> budget = BudgetConfig(optimizer="sgd", weight_decay=5e-4, clip_norm=1.0)
        >>> sgd = new(budget, 0.1, [])
        >>> sgd.momentum, sgd.nesterov, sgd.weight_decay, sgd.global_clipnorm
        (0.9, True, 0.0005, 1.0)
    """
    kind = lookup("optimizer", known(), budget.optimizer)
    settings: dict[str, Any] = dict(COMMON.get(budget.optimizer, {}))
    if budget.weight_decay is not None:
        # Muon has one more, for the weights that it leaves to AdamW
        names = {"weight_decay", "adam_weight_decay"} & set(inspect.signature(kind).parameters)
        settings |= dict.fromkeys(names, float(budget.weight_decay))
    if budget.clip_norm is not None:
        settings["global_clipnorm"] = float(budget.clip_norm)
    if budget.ema is not None:
        settings |= {"use_ema": True, "ema_momentum": float(budget.ema)}
    optimizer = kind(learning_rate=float(rate), **settings)
    optimizer.exclude_from_weight_decay(var_list=[w for w in weights if not is_decayed(w)])
    return optimizer


def is_decayed(weight: keras.Variable) -> bool:
    """Return whether weight decay applies to a weight: not to biases and normalisation.

    All vectors count as such, as is usual.

    Example:
        >>> dense = keras.layers.Dense(3)
        >>> dense.build((None, 2))
        >>> is_decayed(dense.kernel), is_decayed(dense.bias)
        (True, False)
    """
    return len(weight.shape) > 1 and weight.name not in NOT_DECAYED


def label_loss(budget: BudgetConfig) -> keras.losses.Loss | None:
    """Return the loss on the labels for `Trainer.compile`; None is its default, cross-entropy.

    With smoothing `s` and `K` classes, a label `y`, one-hot or soft, becomes `(1 - s) y + s / K`.

    Source: Szegedy et al., *Rethinking the Inception Architecture* (2016), section 7.

    Example:
        >>> label_loss(BudgetConfig()) is None
        True
        >>> label_loss(BudgetConfig(label_smoothing=0.1)).get_config()["name"]
        'categorical_crossentropy'
    """
    if not budget.label_smoothing:
        return None
    return keras.losses.CategoricalCrossentropy(
        from_logits=True, label_smoothing=float(budget.label_smoothing)
    )


@contextlib.contextmanager
def averaged(trainer: keras.Model) -> Iterator[None]:
    """Put the optimizer's averages of the trained weights in their place within the block.

    Afterwards the weights are what they were, to the bit. Weights that are not trained, such as the
    statistics of batch normalisation, are not averaged.

    Args:
        trainer: a compiled model whose optimizer averages its weights.
    """
    weights = trainer.trainable_variables
    before = [np.array(weight) for weight in weights]
    trainer.optimizer.finalize_variable_values(weights)
    try:
        yield
    finally:
        for weight, value in zip(weights, before, strict=True):
            weight.assign(value)
