"""The commands that train many students on one teacher."""

import dataclasses

from kd_keras.cli.output import config_of, counted, print_json, report_of
from kd_keras.config import CompareConfig, SweepConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Sweep(SweepConfig):
    """Find the temperature and the alpha of one method and one student, on one teacher.

    The best setting is chosen on validation; it and the student alone are evaluated on test.
    """

    preset: str = "digits-kd"
    """Preset whose data, models and budget are the defaults: digits-kd, mnist-kd, mhist-kd."""
    smoke: bool = False
    """Run a quick test: a few examples, one epoch, one seed, two temperatures."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        return (
            f"{self.data_name}: {self.teacher} teaches {self.student} by {self.method}, "
            f"{counted(len(self.temperatures) or 1, 'temperature')} by "
            f"{counted(len(self.alphas), 'alpha')}, {counted(len(self.seeds), 'seed')}, in "
            f"{config_of(SweepConfig, self).folder}"
        )

    def __call__(self) -> None:
        _run(config_of(SweepConfig, self), as_json=self.json)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Compare(CompareConfig):
    """Compare methods and students, each beside its student alone, on one teacher."""

    preset: str = "digits-kd"
    """Preset whose data, models and budget are the defaults: digits-kd, mnist-kd, mhist-kd."""
    smoke: bool = False
    """Run a quick test: a few examples, one epoch, one seed."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        folder = config_of(CompareConfig, self).folder
        return (
            f"{self.data_name}: {self.teacher} teaches {', '.join(self.students)} by "
            f"{', '.join(self.methods)}, {counted(len(self.seeds), 'seed')}, in {folder}"
        )

    def __call__(self) -> None:
        _run(config_of(CompareConfig, self), as_json=self.json)


def _run(config: SweepConfig | CompareConfig, *, as_json: bool) -> None:
    from kd_keras.recipes import sweep
    from kd_keras.recipes.progress import Progress
    from kd_keras.report import tables

    results = sweep.run(config, Progress())
    page = report_of(config)
    if as_json:
        print_json(results)
        return
    print(f"run in {config.folder}, report in {page}")
    print()
    print(tables.as_text(results))
