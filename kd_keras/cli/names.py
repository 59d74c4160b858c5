"""The names of methods and optimizers, so that a wrong one is answered before TensorFlow loads.

The registries need TensorFlow, whose import takes seconds. A test holds these names to them.
"""

from typing import Any

from kd_keras.utils.checks import unknown

METHODS = (
    *("kd", "function_matching", "compression", "logit_regression", "probability_regression"),
    *("extractive", "two_temperatures", "dkd", "dist", "mlkd", "wttm", "deit"),
    *("logit_standardisation", "hint", "cosine", "fitnets", "at", "sp", "pkt", "vid", "reviewkd"),
    *("simkd", "srd", "rkd", "cid", "crd", "subclass", "subclass_baseline", "eskd", "takd", "sftn"),
    *("born_again", "born_again_labels", "dml", "byot"),
)
OPTIMIZERS = (
    *("adadelta", "adafactor", "adagrad", "adam", "adamax", "adamw", "ftrl", "lamb", "lion"),
    *("muon", "nadam", "rmsprop", "schedulefreeadamw", "sgd"),
)
EVERY = "all"  # stands for every method in a comparison


def check(command: Any) -> None:
    """Raise `ValueError` for a method or an optimizer that is not known.

    Example:
        >>> from kd_keras.config import DistillConfig
        >>> check(DistillConfig(method="kdd"))
        Traceback (most recent call last):
        ValueError: Unknown method 'kdd'. Did you mean 'kd'? Known: at, born_again, ...
    """
    several = [spec for spec in getattr(command, "methods", ()) if spec != EVERY]
    one = getattr(command, "method", None)
    for spec in (*several, *([] if one is None else [one])):
        name = spec.partition(":")[0].partition("(")[0]
        if name not in METHODS:
            raise ValueError(unknown("method", name, METHODS))
    optimizer = getattr(command, "optimizer", None)
    if optimizer is not None and optimizer not in OPTIMIZERS:
        raise ValueError(unknown("optimizer", optimizer, OPTIMIZERS))
