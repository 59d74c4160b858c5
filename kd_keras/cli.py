"""The command line: each command is a few lines over the library.

Logs and progress go to standard error, results to standard output. Exit codes: 0 done, 1 failed,
2 the words or the data given are wrong.
"""

import dataclasses
import importlib
import json
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import tyro

from kd_keras.checks import lookup
from kd_keras.config import DistillConfig, TrainConfig
from kd_keras.recipes.presets import PRESETS

log = logging.getLogger("kd_keras")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Distill(DistillConfig):
    """Train a teacher, the student alone and the distilled student; compare, export, report.

    Without arguments: the embedded digits, CNN to a small MLP, over three seeds.
    """

    preset: str = "digits-kd"
    """Study whose settings are the defaults: digits-kd, mnist-kd, mhist-kd."""
    smoke: bool = False
    """A quick look: a few examples, one epoch, one seed, small images."""
    json: bool = False
    """Print the results as JSON."""

    def __call__(self) -> None:
        from kd_keras import report, table
        from kd_keras.recipes import distill
        from kd_keras.recipes.progress import Progress

        config = _config(DistillConfig, self)
        results = distill.run(config, Progress())
        page = report.build([config.folder], config.folder / "report")
        if self.json:
            _print_json(results)
            return
        print(f"student exported to {config.export_folder}")
        print(f"run in {config.folder}, report in {page}")
        print()
        print(table.as_text(results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Train(TrainConfig):
    """Train one model on labels alone, over seeds; the best on validation is kept."""

    json: bool = False
    """Print the results as JSON."""

    def __call__(self) -> None:
        from kd_keras import report, table
        from kd_keras.recipes import supervised
        from kd_keras.recipes.progress import Progress

        config = _config(TrainConfig, self)
        results = supervised.run(config, Progress())
        page = report.build([config.folder], config.folder / "report")
        if self.json:
            _print_json(results)
            return
        print(f"model saved to {config.folder / 'model.keras'}, report in {page}")
        print()
        print(table.as_text(results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Evaluate:
    """Judge a saved model on a task's test split, and measure what it costs."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file that returns logits."""
    task: str = "digits"
    """Data set: digits, mnist, mhist, or folder."""
    data_dir: Path | None = None
    """Where the data lies."""
    image_size: int | None = None
    """Resize images to this height and width (mhist, folder)."""
    teacher: Path | None = None
    """A .keras file to measure the agreement with."""
    json: bool = False
    """Print the results as JSON."""

    def __call__(self) -> None:
        from kd_keras import table
        from kd_keras.recipes import supervised

        data = TrainConfig(task=self.task, data_dir=self.data_dir, image_size=self.image_size)
        results = supervised.judge(self.model, data, teacher=self.teacher)
        _print_json(results) if self.json else print(table.as_text(results))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Export:
    """Export a saved model, load the export in a new process, and compare their answers."""

    model: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A .keras file that returns logits."""
    out: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="FOLDER")]
    """Folder to write."""
    format: str = "saved_model"
    """Format; `kd-keras list` shows them."""
    json: bool = False
    """Print the results as JSON."""

    def __call__(self) -> None:
        from kd_keras import export
        from kd_keras.recipes import setup

        write = lookup("format", export.FORMATS, self.format)
        done = dataclasses.asdict(write(setup.read_model(self.model), self.out))
        if self.json:
            _print_json(done)
            return
        print(
            f"{done['path']}: {done['bytes']} bytes, signature {done['signature']!r}, loaded in a "
            f"new process and compared on {done['examples']} drawn images: logits differ by at "
            f"most {done['max_abs_difference']:.2g}"
        )


@dataclasses.dataclass(frozen=True, kw_only=True)
class Report:
    """Make one HTML page with plots from run folders."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="RUN ...")]
    """Run folders."""
    out: Path | None = None
    """Folder to write; `report` in the first run folder where not given."""

    def __call__(self) -> None:
        from kd_keras import report

        if not self.runs:
            raise ValueError("Name at least one run folder, such as runs/digits-kd.")
        print(report.build(self.runs, self.out or self.runs[0] / "report"))


@dataclasses.dataclass(frozen=True, kw_only=True)
class List:
    """List the tasks, models, methods, export formats and presets."""

    json: bool = False
    """Print the list as JSON."""

    def __call__(self) -> None:
        from kd_keras import data, export, methods, models

        names = {
            "tasks": list(data.TASKS),
            "models": list(models.MODELS),
            "methods": list(methods.METHODS),
            "formats": list(export.FORMATS),
            "presets": list(PRESETS),
        }
        if self.json:
            _print_json(names)
            return
        for kind, known in names.items():
            print(f"{kind:<8} {', '.join(known)}")


COMMANDS: dict[str, type] = {
    "distill": Distill,
    "train": Train,
    "evaluate": Evaluate,
    "export": Export,
    "report": Report,
    "list": List,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; the exit code."""
    arguments = list(sys.argv[1:] if arguments is None else arguments)
    _log_to_stderr()
    try:
        command = _parse(arguments)
        _import_tensorflow_quietly()
        command()
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        return _failed(error, code=2)
    except BrokenPipeError:  # whoever read our output has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ArithmeticError, OSError, RuntimeError) as error:
        return _failed(error, code=1)
    except KeyboardInterrupt:
        print("kd-keras: interrupted; the same command goes on from here", file=sys.stderr)
        return 130
    return 0


def _parse(arguments: list[str]) -> Any:
    """The command object; its defaults are those of the preset that the arguments name."""
    if arguments and not arguments[0].startswith("-"):
        lookup("command", COMMANDS, arguments[0])
    commands: Any = None
    for name, command in COMMANDS.items():
        default = _preset(arguments) if name == "distill" else tyro.MISSING_NONPROP
        entry: Any = Annotated[
            command,  # type: ignore[valid-type]
            tyro.conf.subcommand(name, default=default, prefix_name=False),
        ]
        commands = entry if commands is None else commands | entry
    return tyro.cli(
        commands,
        args=arguments,
        prog="kd-keras",
        description="Knowledge distillation for lightweight image classifiers.",
        config=(tyro.conf.FlagCreatePairsOff,),
    )


def _preset(arguments: list[str]) -> Distill:
    """The defaults of `distill`: the preset's settings, in their small form where asked."""
    chosen = argparse_value(arguments, "--preset") or "digits-kd"
    smoke = "--smoke" in arguments
    config = lookup("preset", PRESETS, chosen)(smoke)
    return Distill(**vars(config), preset=chosen, smoke=False)


def argparse_value(arguments: Sequence[str], flag: str) -> str | None:
    """The value of `flag` among the arguments, written `--flag value` or `--flag=value`."""
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _config(kind: type, command: Any) -> Any:
    """The run's config, without what only the command line knows."""
    return kind(**{field.name: getattr(command, field.name) for field in dataclasses.fields(kind)})


def _print_json(value: Any) -> None:
    print(json.dumps(value, default=str))


def _failed(error: BaseException, *, code: int) -> int:
    if os.environ.get("KD_KERAS_TRACEBACK"):
        raise error
    print(f"kd-keras: {error}", file=sys.stderr)
    return code


def _import_tensorflow_quietly() -> None:
    """Import TensorFlow without its greetings, unless the user has set its log level.

    They are written by C++ before any Python setting is heard, so that the file descriptor of
    standard error is turned away meanwhile. If the import fails, they are shown.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as greetings:
        os.dup2(greetings.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except BaseException:
            greetings.seek(0)
            os.write(kept, greetings.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    warnings.showwarning = lambda message, *where: log.warning("%s", message)
    log.propagate = False  # a package we use may have given the root logger a handler


if __name__ == "__main__":
    sys.exit(main())
