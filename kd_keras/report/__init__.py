"""A report made from run folders alone: one HTML page, with its plots as PNG files beside it.

Text tables come from `kd_keras.report.tables`, which imports neither matplotlib nor TensorFlow.
"""

from typing import Any

__all__ = ["build"]


def __getattr__(name: str) -> Any:
    if name == "build":
        from kd_keras.report.pages import build

        return build
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
