"""Formats of deployment: written, loaded back in a new process, and compared."""

from kd_keras.export.writing import FORMATS, Export, check_target, predict, saved_model

__all__ = ["FORMATS", "Export", "check_target", "predict", "saved_model"]
