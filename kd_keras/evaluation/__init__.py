"""How good a model is (`quality`), whether another is better (`paired`), what it costs (`cost`)."""

from kd_keras.evaluation import cost, paired, quality

__all__ = ["cost", "paired", "quality"]
