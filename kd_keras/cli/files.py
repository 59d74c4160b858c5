"""The commands on existing files, and the list of all names."""

import dataclasses
import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from kd_keras.cli.names import EVERY
from kd_keras.cli.output import config_of, counted, print_json
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
    """Export a saved model, load the export in a new process, and compare the two.

    The model of a run folder is compared on the run's own images, with the task's metric; another
    model on random images.
    """

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """Model that returns logits, a .keras or whole .h5 file; or a run folder, for its student."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Folder or file to write; a file ends in .tflite or .onnx, as its format."""
    format: str = "saved_model"
    """Format of the export; `kd-keras list` shows them. `all` writes every format and quantization
    into the folder, with a table of them, formats.json and formats.md."""
    quantize: str = "none"
    """Numbers that the export keeps: none (float32), float16, dynamic (weights in 8 bits), or int8
    (integers throughout, with ranges from the run's training images)."""
    min_agreement: float | None = None
    """Least share of images for which the export must choose the model's class; 0.99 for float16
    and dynamic, 0.98 for int8 if not given."""
    split: str = "test"
    """Images of the run to compare on: test, or validation if you choose a format by them."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        form = "every format" if self.format == EVERY else self.format
        numbers = "" if self.quantize == "none" else f", {self.quantize}"
        return f"exporting {self.model} to {self.out} as {form}{numbers}"

    def early(self, arguments: Sequence[str]) -> "Export":
        """Refuse an export in integers without images, before TensorFlow loads."""
        if self.quantize == "int8" and not is_run(self.model):
            raise ValueError(
                f"int8 reads the ranges of activations from training images, and {self.model} has "
                "none: name a run folder in place of its model, or call `kd_keras.export.export` "
                "with `representative`."
            )
        return self

    def __call__(self) -> None:
        if self.format == EVERY:
            self._every()
            return
        from kd_keras.recipes import exports

        done = dataclasses.asdict(
            exports.one(
                *(self.model, self.out, self.format, self.quantize),
                min_agreement=self.min_agreement,
                split=self.split,
            )
        )
        print_json(done) if self.json else print(_exported(done))

    def _every(self) -> None:
        from kd_keras.recipes import exports
        from kd_keras.report import export_table

        found = exports.every(
            self.model, self.out, min_agreement=self.min_agreement, split=self.split
        )
        export_table.write(found, self.out)
        print_json(found) if self.json else print(export_table.as_text(found))


def _exported(done: dict[str, Any]) -> str:
    """Return what a person wants to know of an export."""
    images = "random" if done["metric"] is None else done["metric"]["split"]
    lines = [
        f"{done['path']}: {done['bytes']} bytes, signature {done['signature']!r}, loaded in a "
        f"new process and compared on {done['examples']} {images} images: logits differ by at "
        f"most {done['max_abs_difference']:.2g}, the class is the same for {done['agreement']:.2%}"
    ]
    metric = done["metric"]
    if metric is not None and metric["export"] is not None:
        low, high = metric["interval"]
        lines.append(
            f"{metric['metric']} {metric['export']:.4f}, {metric['difference']:+.4f} against the "
            f"model, {100 * metric['confidence']:g} % interval {low:+.4f} to {high:+.4f}"
        )
    for entry in done["latency"]["threads"]:
        lines.append(
            f"one image on {counted(entry['threads'], 'thread')}: {entry['median_ms']:.3f} ms, "
            f"95th percentile {entry['p95_ms']:.3f}; the Keras model "
            f"{entry['keras_median_ms']:.3f} ms, "
            f"{entry['keras_p95_ms']:.3f}"
        )
    if done["latency"]["unsure"]:
        lines.append(f"The latency is unsure: {done['latency']['unsure']}.")
    return "\n".join(lines)


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
    """List the tasks, models, methods, augmentations, optimizers, metrics, formats, quantizations,
    presets; or one kind, with options."""

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
            "quantizations": list(export.QUANTIZATIONS),
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
