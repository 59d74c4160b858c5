"""Knowledge distillation for lightweight image classifiers, in Keras 3 on TensorFlow.

The names below are loaded when they are first used, so that `import kd_keras` costs nothing.
"""

import importlib
from typing import Any

__version__ = "0.1.0"

_MODULES = (
    "cache",
    "data",
    "evaluation",
    "export",
    "losses",
    "methods",
    "models",
    "recipes",
    "report",
    "schedules",
    "studies",
    "teachers",
)
_NAMES = {
    "Distiller": "training.distiller",
    "MutualDistiller": "training.mutual",
    "Diverged": "training.divergence",
    "CachedTeacher": "teachers",
    "EnsembleTeacher": "teachers",
    "LiveTeacher": "teachers",
    "distill": "script",
}

__all__ = [*_NAMES, *_MODULES, "__version__"]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    if name in _NAMES:
        return getattr(importlib.import_module(f"{__name__}.{_NAMES[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
