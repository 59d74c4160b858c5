"""What a search is made of: one frozen dataclass, from which the command line is made too."""

import dataclasses
from pathlib import Path
from typing import Any

from kd_keras.config import (
    BudgetConfig,
    CacheConfig,
    DataConfig,
    DistillConfig,
    StudentConfig,
    TeacherConfig,
    check_budget,
)
from kd_keras.utils.checks import positive, within

TRIALS = 20  # of an oracle that would go on for ever


@dataclasses.dataclass(frozen=True, kw_only=True)
class TuneConfig(CacheConfig, StudentConfig, TeacherConfig, BudgetConfig, DataConfig):
    """Search for the hyper-parameters of a distillation; judge the best ones on test.

    Student, method, temperature, alpha and learning rate are the default setting: what a space
    does not vary, and what the best setting is measured against.

    Example:
        >>> TuneConfig(oracle="hyperband", factor=2).folder.as_posix()
        'runs/digits-tune'
    """

    temperature: float | None = None
    """Of the default setting; the method's own default where not given."""
    alpha: float | None = None
    """Of the default setting: weight of the labels, 1 is plain training, 0 the teacher alone; the
    method's own if not given."""
    space: str = "kd"
    """What is varied: kd, kd-grid, methods, student, methods=NAME,NAME, or FILE.py:FUNCTION."""
    oracle: str = "random"
    """Who proposes settings: random, grid, bayesian or hyperband."""
    trials: int | None = None
    """Settings to try at the most: 20 where not given, for grid all; hyperband decides itself."""
    executions_per_trial: int = 1
    """Trainings of each setting, with a seed each; its score is their mean."""
    objective: str | None = None
    """Metric on validation: accuracy, auc, balanced_accuracy, f1; the task's own if not given."""
    seed: int = 0
    """Of the search: of what is proposed, of the teacher's training and of the trials'."""
    factor: int = 3
    """hyperband: one in so many settings is trained further, so many times as long."""
    hyperband_iterations: int = 1
    """hyperband: how often all its brackets are run."""
    out: Path | None = None
    """Run folder; runs/<task>-tune where not given."""
    overwrite: bool = False
    """Replace a run folder of other settings, and run a finished one anew."""

    def __post_init__(self) -> None:
        check_budget(self)
        if self.alpha is not None:
            within("alpha", self.alpha, 0.0, 1.0)
        if self.temperature is not None:
            positive("temperature", self.temperature)
        for name in ("trials", "executions_per_trial", "hyperband_iterations"):
            if getattr(self, name) is not None:
                positive(name, getattr(self, name))
        if self.factor < 2:
            raise ValueError(f"`factor` must be 2 or more. Received: factor={self.factor}")
        if self.seed < 0:
            raise ValueError(f"`seed` must not be negative. Received: seed={self.seed}")
        if self.oracle == "hyperband" and self.trials is not None:
            raise ValueError(
                "`trials` is not for hyperband, which decides by `epochs`, `factor` and "
                f"`hyperband_iterations` how many settings it tries. Received: {self.trials}"
            )

    @property
    def folder(self) -> Path:
        return self.out or Path("runs") / f"{self.task}-tune"

    @property
    def trial_seeds(self) -> tuple[int, ...]:
        """One for each execution, the same for all trials: they start alike."""
        return tuple(self.seed + number for number in range(self.executions_per_trial))


def from_preset(preset: DistillConfig, smoke: bool = False) -> TuneConfig:
    """A search with a preset's data, models and budget; its small form is small enough here."""
    names = {field.name for field in dataclasses.fields(TuneConfig)} - {"out", "overwrite"}
    shared: dict[str, Any] = {k: v for k, v in vars(preset).items() if k in names}
    return TuneConfig(**shared)
