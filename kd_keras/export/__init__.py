"""Formats of deployment: written, loaded back in a new process, and compared."""

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
