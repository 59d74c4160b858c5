"""Values of hyper-parameters: those of the space alone, as text, and for a space to read."""

from collections.abc import Mapping
from typing import Any

import keras_tuner

from kd_keras.report import trial_tables


def own(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return the values that belong to a space, without those that Hyperband adds.

    Example:
        >>> own({"alpha": 0.5, "tuner/epochs": 4})
        {'alpha': 0.5}
    """
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def in_words(values: Mapping[str, Any]) -> str:
    """Return the values as text on one line.

    Example:
        >>> in_words({"temperature": 2.66913, "method": "kd"})
        'temperature=2.669, method=kd'
    """
    return ", ".join(f"{name}={trial_tables.value(value)}" for name, value in values.items())


def standing_at(values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Return hyper-parameters with given values, for a space to read.

    Example:
        >>> standing_at({"alpha": 0.5}).Float("alpha", 0.0, 1.0)
        0.5
    """
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp
