"""Values of hyper-parameters: those of the space alone, in words, for a space to read again."""

from collections.abc import Mapping
from typing import Any

import keras_tuner

from kd_keras.report import trial_tables


def own(values: Mapping[str, Any]) -> dict[str, Any]:
    """Those of a space, without what Hyperband adds.

    Example:
        >>> own({"alpha": 0.5, "tuner/epochs": 4})
        {'alpha': 0.5}
    """
    return {name: value for name, value in values.items() if not name.startswith("tuner/")}


def in_words(values: Mapping[str, Any]) -> str:
    """Values on one line.

    Example:
        >>> in_words({"temperature": 2.66913, "method": "kd"})
        'temperature=2.669, method=kd'
    """
    return ", ".join(f"{name}={trial_tables.value(value)}" for name, value in values.items())


def standing_at(values: Mapping[str, Any]) -> keras_tuner.HyperParameters:
    """Hyper-parameters that stand at given values, for a space to read.

    Example:
        >>> standing_at({"alpha": 0.5}).Float("alpha", 0.0, 1.0)
        0.5
    """
    hp = keras_tuner.HyperParameters()
    hp.values = dict(values)
    return hp
