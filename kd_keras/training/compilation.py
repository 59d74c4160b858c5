"""The arguments of `compile`, stored so that another trainer can be compiled in the same way."""

import dataclasses
from typing import Any

import keras

from kd_keras.runtime.execution import Execution
from kd_keras.runtime.kernels import computes_in

SCALING = keras.optimizers.LossScaleOptimizer


@dataclasses.dataclass(frozen=True)
class Compilation:
    """The arguments of `Trainer.compile`.

    It is an object and not a dict: Keras would track the contents of a container.

    Attributes:
        execution: an `Execution` to use instead of the chosen one; it is not saved.
        optimizer_config: of the optimizer as given, from which fresh ones are made.
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
        """Return the arguments that are saved with a trainer, by name."""
        names = [field.name for field in dataclasses.fields(self)]
        return {name: getattr(self, name) for name in names[:-2]}

    def execution_options(self) -> dict[str, Any]:
        """Return the arguments on how steps are run, as `execution.with_options` takes them."""
        steps, jit = self.steps_per_execution, self.jit_compile
        return {"steps": steps, "jit": jit, "all": self.execution}

    def again(self, metrics: Any) -> dict[str, Any]:
        """Return arguments of `compile` for another trainer: a fresh optimizer, its own metrics."""
        return {
            **self.saved(),
            "optimizer": keras.optimizers.deserialize(self.optimizer_config),
            "metrics": metrics,
            "weighted_metrics": None,
            "execution": self.execution,
        }

    def scaled(self, optimizer: Any, model: keras.Model) -> Any:
        """Return the optimizer, wrapped to scale the loss if that was requested and is needed."""
        needed = self.auto_scale_loss and computes_in(model, "float16")
        if not needed or optimizer is None or isinstance(optimizer, SCALING):
            return optimizer
        return SCALING(optimizer, name="loss_scale_optimizer")

    def new_optimizer(self, model: keras.Model) -> Any:
        """Return a fresh optimizer, built for a model's trainable weights."""
        fresh = self.scaled(keras.optimizers.deserialize(self.optimizer_config), model)
        fresh.build(model.trainable_variables)
        return fresh
