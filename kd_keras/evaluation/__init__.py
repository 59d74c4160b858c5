"""How good a model is (`quality`) and what it costs (`cost`)."""

from kd_keras.evaluation import cost, quality

__all__ = ["cost", "quality"]
