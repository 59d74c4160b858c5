"""`python -m tuning.search` is `kd-keras tune`; `tuning.search.run` is the same in a script.

Names are imported at their first use, since TensorFlow comes with them.
"""

import importlib
import sys
from typing import Any

from kd_keras.cli import door

_NAMES = {
    "TuneConfig": "config",
    "run": "run",
    "read": "outcome",
    "DistillationModel": "hypermodel",
}

__all__ = [*_NAMES]


def __getattr__(name: str) -> Any:
    if name not in _NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"tuning.{_NAMES[name]}"), name)


if __name__ == "__main__":
    door(["tune", *sys.argv[1:]])
