"""The commands that train one comparison or one model."""

import dataclasses

from kd_keras.cli.output import config_of, counted, print_json, report_of
from kd_keras.config import DistillConfig, PretrainConfig, TrainConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class FromPreset:
    """The options of a command whose defaults come from a preset."""

    preset: str = "digits-kd"
    """Preset whose settings are the defaults: digits-kd, mnist-kd, mhist-kd."""
    smoke: bool = False
    """Run a quick test: a few examples, one epoch, one seed, small images."""
    json: bool = False
    """Print the results as JSON."""


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(FromPreset, DistillConfig):
    """Train a teacher, the student alone and the distilled student; compare, export, report.

    Without arguments, it distills a CNN into a small MLP on the embedded digits, over three seeds.
    """

    @property
    def opening(self) -> str:
        seeds = counted(len(self.seeds), "seed")
        return (
            f"{self.data_name}: {self.teacher} teaches {self.student} by {self.method}, {seeds}, "
            f"in {config_of(DistillConfig, self).folder}"
        )

    def __call__(self) -> None:
        _compare(config_of(DistillConfig, self), as_json=self.json)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Pretrain(FromPreset, PretrainConfig):
    """Let a student match a teacher's features on images without labels, then learn the labels.

    The teacher may give features alone, without logits. The images are those of --transfer-dir, or
    the training images. The student alone learns from labels for the epochs of both trainings.
    """

    @property
    def opening(self) -> str:
        seeds = counted(len(self.seeds), "seed")
        return (
            f"{self.data_name}: {self.teacher} prepares {self.student} by {self.method}, {seeds}, "
            f"in {config_of(PretrainConfig, self).folder}"
        )

    def __call__(self) -> None:
        _compare(config_of(PretrainConfig, self), as_json=self.json)


def _compare(config: DistillConfig, *, as_json: bool) -> None:
    from kd_keras.recipes import distill
    from kd_keras.recipes.progress import Progress
    from kd_keras.report import tables

    results = distill.run(config, Progress())
    page = report_of(config)
    if as_json:
        print_json(results)
        return
    print(f"student exported to {(results['export'] or {})['path']}")
    print(f"run in {config.folder}, report in {page}")
    print()
    print(tables.as_text(results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(TrainConfig):
    """Train one model on labels alone, over several seeds; save the best one on validation."""

    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        seeds = counted(len(self.seeds), "seed")
        folder = config_of(TrainConfig, self).folder
        return f"{self.data_name}: {self.model} learns from labels, {seeds}, in {folder}"

    def __call__(self) -> None:
        from kd_keras.recipes import supervised
        from kd_keras.recipes.progress import Progress
        from kd_keras.report import tables

        config = config_of(TrainConfig, self)
        results = supervised.run(config, Progress())
        page = report_of(config)
        if self.json:
            print_json(results)
            return
        print(f"model saved to {config.folder / 'model.keras'}, report in {page}")
        print()
        print(tables.as_text(results))
