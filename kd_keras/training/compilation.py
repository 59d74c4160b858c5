"""The arguments of `compile`, kept so that one trainer can be compiled as another one is."""

import dataclasses
from typing import Any

import keras

from kd_keras.runtime.execution import Execution
from kd_keras.runtime.kernels import computes_in_float16

SCALING = keras.optimizers.LossScaleOptimizer


@dataclasses.dataclass(frozen=True)
class Compilation:
    """The arguments of `Trainer.compile`.

    A value and no dict: Keras would look into a container, and track what it holds.

    Attributes:
        execution: an `Execution` to use instead of one that is chosen; it is not saved.
        optimizer_config: of the optimizer as it was given, from which one as new is made.
    """

    optimizer: Any
    loss: Any
    metrics: Any
    weighted_metrics: Any
    run_eagerly: bool
    steps_per_execution: int | None
    jit_compile: bool | str | None
    auto_scale_loss: bool
    execution: Execution | None = None
    optimizer_config: Any = None

    def saved(self) -> dict[str, Any]:
        """The arguments that a saved trainer keeps, by name."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names[:-2]}

    def words(self) -> dict[str, Any]:
        """The arguments that say how steps are run, as `execution.with_words` takes them."""
        steps, jit = self.steps_per_execution, self.jit_compile
        return {"steps": steps, "jit": jit, "all": self.execution}

    def again(self, metrics: Any) -> dict[str, Any]:
        """Arguments of `compile` for another trainer: an optimizer as new, and its own metrics."""
        return {
            **self.saved(),
            "optimizer": keras.optimizers.deserialize(self.optimizer_config),
            "metrics": metrics,
            "weighted_metrics": None,
            "execution": self.execution,
        }

    def scaled(self, optimizer: Any, model: keras.Model) -> Any:
        """The optimizer, made to scale the loss too where that was asked for and is needed."""
        needed = self.auto_scale_loss and computes_in_float16(model)
        if not needed or optimizer is None or isinstance(optimizer, SCALING):
            return optimizer
        return SCALING(optimizer, name="loss_scale_optimizer")

    def new_optimizer(self, model: keras.Model) -> Any:
        """An optimizer as new, built for a model's trainable weights."""
        fresh = self.scaled(keras.optimizers.deserialize(self.optimizer_config), model)
        fresh.build(model.trainable_variables)
        return fresh
