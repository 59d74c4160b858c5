"""Evaluate models: their quality (`quality`), differences (`paired`) and cost (`cost`)."""

import importlib
from typing import Any

from kd_keras.evaluation import metrics, paired, quality
from kd_keras.evaluation.metrics import METRICS, Metric

__all__ = ["METRICS", "Metric", "cost", "metrics", "paired", "quality"]


def __getattr__(name: str) -> Any:
    if name == "cost":  # the only module here that runs models, and imports TensorFlow
        return importlib.import_module("kd_keras.evaluation.cost")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
