"""The command that searches for hyper-parameters."""

import dataclasses
from typing import Any

from kd_keras.cli.output import config_of, print_json, report_of
from tuning.config import TuneConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Tune(TuneConfig):
    """Search for temperature, alpha, learning rate, method or student, with KerasTuner.

    The best setting on validation is trained again and evaluated on test, beside the default
    setting and the student alone. `python -m tuning.search` is the same command.
    """

    preset: str = "digits-kd"
    """Preset whose data, models and budget are the defaults: digits-kd, mnist-kd, mhist-kd."""
    smoke: bool = False
    """Run a quick test: a few examples, one epoch, one seed."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        return (
            f"{self.data_name}: {self.oracle} search of the space {self.space}, "
            f"{self.teacher} teaches, in {config_of(TuneConfig, self).folder}"
        )

    def __call__(self) -> int:
        return self.search()

    def search(self, **how: Any) -> int:
        """Search, print, and return the exit code. `how` goes to `tuning.run.run`."""
        from kd_keras.recipes.progress import Progress
        from kd_keras.report import trial_tables
        from tuning.run import run

        config = config_of(TuneConfig, self)
        results = run(config, progress=Progress(), **how)
        page = report_of(config)
        if self.json:
            print_json(results)
        else:
            print(f"run in {config.folder}, report in {page}")
            print()
            print(trial_tables.as_text(results))
        return 1 if results["search"]["failed"] else 0
