"""What MLflow's autologging cannot see of a distillation: its method, alpha and temperature."""

import sys
from collections.abc import Callable
from typing import Any

import keras


def callbacks(describe: Callable[[], dict[str, Any]]) -> list[keras.callbacks.Callback]:
    """Return a callback that logs a description to the run that MLflow's autologging has begun.

    There is none if `mlflow.autolog()` or `mlflow.tensorflow.autolog()` was not called.

    Args:
        describe: returns parameters by name.
    """
    mlflow = sys.modules.get("mlflow")
    if mlflow is None:
        return []
    known = mlflow.utils.autologging_utils.AUTOLOGGING_INTEGRATIONS.get("tensorflow")
    if known is None or known.get("disable", False):
        return []

    def begin(logs=None):
        if mlflow.active_run() is not None:
            mlflow.log_params(describe())

    return [keras.callbacks.LambdaCallback(on_train_begin=begin)]
