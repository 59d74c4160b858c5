"""The commands on existing files, and the list of all names."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import DataConfig, TrainConfig
from kd_keras.recipes.finished import data_of, is_run, model_in
from kd_keras.recipes.presets import PRESETS
from kd_keras.utils.checks import lookup


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate(DataConfig):
    """Evaluate a saved model on a task's test split, and measure its cost.

    The data of a run folder are those that its run was made with.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model that returns logits, a .keras or whole .h5 file; or a run folder, for its student."""
    teacher: Path | None = None
    """Teacher to measure the agreement with: a .keras or whole .h5 file."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        return f"{self.data_config.data_name}: evaluating {model_in(self.model)}"

    @property
    def data_config(self) -> DataConfig:
        """The data to evaluate on: those given, or those of the run folder."""
        given = config_of(DataConfig, self)
        return data_of(self.model) if given == DataConfig() and is_run(self.model) else given

    def __call__(self) -> None:
        from kd_keras.recipes import supervised
        from kd_keras.report import tables

        data = TrainConfig(**vars(self.data_config))
        results = supervised.judge(model_in(self.model), data, teacher=self.teacher)
        print_json(results) if self.json else print(tables.as_text(results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Export a saved model, load the export in a new process, and compare their predictions."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model that returns logits, a .keras or whole .h5 file; or a run folder, for its student."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write."""
    format: str = "saved_model"
    """Format of the export; `kd-keras list` shows them."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        return f"exporting {self.model} to {self.out} as {self.format}"

    def __call__(self) -> None:
        from kd_keras import export
        from kd_keras.recipes import setup

        export.check_target(self.out, self.format)
        done = dataclasses.asdict(
            export.export(setup.read_model(model_in(self.model)), self.out, self.format)
        )
        if self.json:
            print_json(done)
            return
        print(
            f"{done['path']}: {done['bytes']} bytes, signature {done['signature']!r}, loaded in a "
            f"new process and compared on {done['examples']} random images: logits differ by at "
            f"most {done['max_abs_difference']:.2g}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page with plots from run folders."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run folders."""
    out: Path | None = None
    """Folder to write; `report` in the first run folder if not given."""

    @property
    def opening(self) -> str:
        return f"making a report of {', '.join(map(str, self.runs))}"

    def __call__(self) -> None:
        from kd_keras import report

        if not self.runs:
            raise ValueError("Name at least one run folder, such as runs/digits-kd.")
        print(report.build(self.runs, self.out or self.runs[0] / "report"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """List the tasks, models, methods, augmentations, optimizers, metrics, formats, presets; or one
    kind, with options."""

    kind: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="KIND")] = None
    """tasks, models, methods or augmentations: list these, each with its options and their
    defaults, and the range of an augmentation's strength."""
    json: bool = False
    """Print the list as JSON."""

    @property
    def opening(self) -> str:
        return f"listing {self.kind or 'all names'}"

    def __call__(self) -> None:
        from kd_keras import data, evaluation, export, methods, models
        from kd_keras.data import augmentation
        from kd_keras.recipes import optimizers

        if self.kind is not None:
            kinds: dict[str, tuple[Mapping[str, Any], Callable[[str], dict[str, Any]]]] = {
                "tasks": (data.TASKS, data.options_of),
                "models": (models.MODELS, models.knobs),
                "methods": (methods.METHODS, methods.knobs_of),
                "augmentations": (augmentation.KNOWN, augmentation.options_of),
            }
            names, options = lookup("kind of names with options", kinds, self.kind)
            self._print({name: options(name) for name in names})
            return
        found = {
            "tasks": list(data.TASKS),
            "models": list(models.MODELS),
            "methods": list(methods.METHODS),
            "augmentations": list(augmentation.KNOWN),
            "optimizers": list(optimizers.known()),
            "metrics": list(evaluation.METRICS),
            "formats": list(export.FORMATS),
            "presets": list(PRESETS),
        }
        if self.json:
            print_json(found)
            return
        for kind, known in found.items():
            print(f"{kind:<13} {', '.join(known)}")

    def _print(self, options: dict[str, dict[str, Any]]) -> None:
        shown = {
            name: {option: _default(value) for option, value in own.items()}
            for name, own in options.items()
        }
        if self.json:
            print_json(shown)
            return
        for name, own in shown.items():
            words = [f"{option}={value}" for option, value in own.items()]
            print(f"{name:<22} {' '.join(words)}".rstrip())


def _default(value: Any) -> str:
    """Return an option's default as written on a command line; `?` if there is none."""
    if value is inspect.Parameter.empty:
        return "?"
    return ",".join(map(str, value)) if isinstance(value, (tuple, list)) else str(value)
