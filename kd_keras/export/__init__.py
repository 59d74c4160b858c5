"""Deployment formats: export a model, load it in a new process, and compare predictions."""

from kd_keras.export.comparing import Judge
from kd_keras.export.content import Content
from kd_keras.export.exporting import Export, check_target, export, logits_on_cpu, saved_model
from kd_keras.export.formats import FORMATS, ExportFormat
from kd_keras.export.places import Folder, SingleFile
from kd_keras.export.quantization import QUANTIZATIONS, Quantization
from kd_keras.export.savedmodel import predict
from kd_keras.export.stopwatch import Stopwatch

__all__ = [
    "FORMATS",
    "QUANTIZATIONS",
    "Content",
    "Export",
    "ExportFormat",
    "Folder",
    "Judge",
    "Quantization",
    "SingleFile",
    "Stopwatch",
    "check_target",
    "export",
    "logits_on_cpu",
    "predict",
    "saved_model",
]
