"""Complete runs, from a config to a run folder. Modules load on first use: presets are cheap."""

import importlib
from typing import Any

from kd_keras.recipes.presets import PRESETS

_MODULES = ("distill", "precompute", "supervised", "sweep")

__all__ = ["PRESETS", *_MODULES]


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
