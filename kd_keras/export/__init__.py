"""Deployment formats: export a model, load it in a new process, and compare predictions."""

from kd_keras.export.exporting import Export, check_target, export, saved_model
from kd_keras.export.formats import FORMATS, ExportFormat
from kd_keras.export.savedmodel import predict

__all__ = [
    "FORMATS",
    "Export",
    "ExportFormat",
    "check_target",
    "export",
    "predict",
    "saved_model",
]
