"""The config of a search: a frozen dataclass, which also defines the command line."""

import dataclasses
from typing import Any

from kd_keras.config import DistillConfig, SettingConfig
from kd_keras.utils.checks import positive

TRIALS = 20  # of an oracle that would never stop by itself


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(SettingConfig):
    """Search for the hyper-parameters of a distillation; evaluate the best ones on test.

    Student, method, temperature, alpha and learning rate form the default setting. It supplies
    the values that a space does not vary, and the best setting is compared with it.

    Example:
        >>> TuneConfig(oracle="hyperband", factor=2).folder.as_posix()
        'runs/digits-tune'
    """

    space: str = "kd"
    """Search space: kd, kd-grid, methods, student, methods=NAME,NAME, or FILE.py:FUNCTION."""
    oracle: str = "random"
    """Oracle that proposes settings: random, grid, bayesian or hyperband."""
    trials: int | None = None
    """Most settings to try; 20 if not given, all for grid; hyperband decides by itself."""
    executions_per_trial: int = 1
    """Trainings per setting, each with its own seed; the score is their mean."""
    objective: str | None = None
    """Validation metric: accuracy, auc, balanced_accuracy, f1; the task's own if not given."""
    seed: int = 0
    """Seed of the proposed settings, the teacher's training and the trials."""
    factor: int = 3
    """hyperband: one in `factor` settings is trained further, `factor` times as long."""
    hyperband_iterations: int = 1
    """hyperband: number of times that all brackets are run."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("trials", "executions_per_trial", "hyperband_iterations"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        if self.factor < 2:
            raise ValueError(f"`factor` must be 2 or more. Received: factor={self.factor}")
        if self.seed < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={self.seed}")
        if self.oracle == "hyperband" and self.trials is not None:
            raise ValueError(
                "`trials` does not apply to hyperband, which derives the number of settings from "
                f"`epochs`, `factor` and `hyperband_iterations`. Received: {self.trials}"
            )

    @property
    def _named_after(self) -> str:
        return "tune"

    @property
    def trial_seeds(self) -> tuple[int, ...]:
        """One seed per execution, the same for all trials."""
        return tuple(self.seed + number for number in range(self.executions_per_trial))


def from_preset(preset: DistillConfig, smoke: bool = False) -> TuneConfig:
    """Return a search with a preset's data, models and budget; `smoke` changes nothing further."""
    names = {field.name for field in dataclasses.fields(TuneConfig)} - {"out", "overwrite"}
    shared: dict[str, Any] = {k: v for k, v in vars(preset).items() if k in names}
    return TuneConfig(**shared)
