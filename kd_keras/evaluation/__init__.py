"""Evaluate models: their quality (`quality`), differences (`paired`), cost (`cost`), what they look
at (`explain`); and correct the logits of some classes (`offsets`)."""

import importlib
from typing import Any

from kd_keras.evaluation import metrics, offsets, paired, quality
from kd_keras.evaluation.metrics import METRICS, Metric

__all__ = ["METRICS", "Metric", "cost", "explain", "metrics", "offsets", "paired", "quality"]


def __getattr__(name: str) -> Any:
    if name in ("cost", "explain"):  # these run models, and import TensorFlow
        return importlib.import_module(f"kd_keras.evaluation.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
