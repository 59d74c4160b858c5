"""From command-line arguments to a command, and from its exceptions to an exit code.

Logs and progress go to standard error, results to standard output.
"""

import contextlib
import dataclasses
import importlib
import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any

import tyro

from kd_keras.cli import names
from kd_keras.cli.benchmark import Benchmark
from kd_keras.cli.cache import Cache
from kd_keras.cli.data import Data
from kd_keras.cli.explain import Explain
from kd_keras.cli.files import Evaluate, Export, List, Report
from kd_keras.cli.study import StudyCommand
from kd_keras.cli.sweeps import Compare, Sweep
from kd_keras.cli.training import Distill, Pretrain, Train
from kd_keras.cli.tuning import Tune
from kd_keras.config import DataConfig, DistillConfig
from kd_keras.recipes.presets import PRESETS, as_compare, as_pretrain, as_sweep, small
from kd_keras.utils import interrupts
from kd_keras.utils.checks import lookup
from tuning.config import from_preset

log = logging.getLogger("kd_keras")


COMMANDS: dict[str, type] = {
    "distill": Distill,
    "pretrain": Pretrain,
    "sweep": Sweep,
    "compare": Compare,
    "study": StudyCommand,
    "tune": Tune,
    "train": Train,
    "data": Data,
    "evaluate": Evaluate,
    "explain": Explain,
    "export": Export,
    "report": Report,
    "cache": Cache,
    "benchmark": Benchmark,
    "list": List,
}

# the commands whose defaults come from a preset, and how to make them
FROM_PRESET: dict[str, Callable[[DistillConfig, bool], Any]] = {
    "distill": lambda config, smoke: config,
    "pretrain": as_pretrain,
    "sweep": as_sweep,
    "compare": as_compare,
    "tune": from_preset,
}

# options of `sweep`, which was called `study`
SWEEPING = ("--preset", "--temperatures", "--alphas", "--teacher", "--student", "--task", "--data")

# Keras does without these if they are not installed: it has wrappers for scikit-learn, plots of its
# own and tables of pandas, which no command uses. They take a third of the time of its import.
NOT_NEEDED = ("matplotlib", "pandas", "sklearn")

# settings that only make sense for one model or method
BELONGINGS = {
    "teacher": ("teacher_knobs", "teacher_weights"),
    "student": ("student_knobs", "student_weights"),
    "method": ("method_knobs", "temperature", "temperature_end", "alpha", "alpha_end"),
}


def run(given: Sequence[str], only: str | None = None) -> int:
    """Run a command and return its exit code. Arguments as in `cli.main`."""
    given = list(given)
    _log_to_stderr()
    try:
        command = _parse(given) if only is None else _parse_only(_kind(only), given)
        names.check(command)
        log.info("%s", command.opening)  # TensorFlow takes seconds to load
        if hasattr(command, "early"):  # work to do before TensorFlow is loaded
            command = command.early(given)
        import_tensorflow_quietly()
        return command() or 0
    except (ValueError, FileNotFoundError, FileExistsError, NotADirectoryError) as error:
        return _failed(error, code=2)
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ArithmeticError, OSError, RuntimeError) as error:
        return _failed(error, code=1)
    except Exception as error:
        if not _is_tensorflows(error):
            raise
        return _failed(error, code=1)


def _kind(only: str) -> type:
    module, _, name = only.partition(":")
    return getattr(importlib.import_module(module), name)


def _is_tensorflows(error: Exception) -> bool:
    """Return True for one of TensorFlow's own errors, about its input or the machine."""
    module = sys.modules.get("tensorflow")  # if it was not loaded, it has raised nothing
    return module is not None and isinstance(error, module.errors.OpError)


def _parse(arguments: list[str]) -> Any:
    """Parse a command; its defaults are those of the preset that the arguments name."""
    if arguments and not arguments[0].startswith("-"):
        lookup("command", COMMANDS, arguments[0])
    if arguments[:1] == ["study"] and arguments[1:2] and arguments[1] in SWEEPING:
        raise ValueError(
            "`kd-keras study NAME` runs a whole study. The search for temperature and alpha, which "
            "was of that name, is `kd-keras sweep`."
        )
    commands: Any = None
    for name, command in COMMANDS.items():
        default = _preset(name, arguments) if name in FROM_PRESET else tyro.MISSING_NONPROP
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
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )


def _parse_only(kind: type, arguments: list[str]) -> Any:
    """Parse a command of one kind, which is `tune` with more options."""
    return tyro.cli(
        kind,
        args=arguments,
        default=_preset("tune", arguments, kind),
        prog="python -m tuning.distributed",
        config=(tyro.conf.FlagCreatePairsOff, tyro.conf.OmitArgPrefixes),
    )


def _preset(command: str, arguments: list[str], kind: type | None = None) -> Any:
    """Return a command's defaults: the preset's settings, the small ones with `--smoke`."""
    data, named = argparse_value(arguments, "--data"), argparse_value(arguments, "--preset")
    chosen, smoke = named or "digits-kd", "--smoke" in arguments
    if data is not None and named is None:
        return _for_data(command, arguments, kind)
    config = FROM_PRESET[command](lookup("preset", PRESETS, chosen)(smoke), smoke)
    config = _without_foreign(config, arguments)
    return (kind or COMMANDS[command])(**vars(config), preset=chosen, smoke=False)


def _for_data(command: str, arguments: list[str], kind: type | None) -> Any:
    """Return a command's defaults, chosen from the user's own data, and log the reasons."""
    from kd_keras.recipes import chosen, reading

    asked = arguments and arguments[0] == command  # and not a help text of another command
    if kind is None and not asked:
        return COMMANDS[command](preset="digits-kd", smoke=False)
    log.info("%s: looking at the data", argparse_value(arguments, "--data"))
    found = chosen.for_data(reading.look_at(_data_config(arguments)))
    smoke = "--smoke" in arguments
    config = small(found.config) if smoke else found.config
    config = _without_foreign(FROM_PRESET[command](config, smoke), arguments)
    if argparse_value(arguments, "--epochs") is not None and hasattr(config, "teacher_epochs"):
        config = dataclasses.replace(config, teacher_epochs=None)
    log.info("chosen from the data, where nothing is given:")
    for reason in found.reasons:
        log.info("  %s", reason)
    return (kind or COMMANDS[command])(**vars(config), preset="digits-kd", smoke=False)


def _data_config(arguments: list[str]) -> DataConfig:
    """Return the settings of data that the arguments give."""
    words = _data_words(arguments)
    return tyro.cli(DataConfig, args=words, config=(tyro.conf.FlagCreatePairsOff,))


def _data_words(arguments: list[str]) -> list[str]:
    """Return the arguments that are options of `DataConfig`, with their values."""
    names = {f"--{field.name.replace('_', '-')}" for field in dataclasses.fields(DataConfig)}
    words: list[str] = []
    taking = False
    for word in arguments:
        if word.startswith("--"):
            taking = word.partition("=")[0].replace("_", "-") in names
        if taking:
            words.append(word)
    return words


def _without_foreign(config: Any, arguments: list[str]) -> Any:
    """Return a preset without its settings for models and methods that the arguments replace."""
    plain = {field.name: field.default for field in dataclasses.fields(config)}
    changes: dict[str, Any] = {}
    for role, own in BELONGINGS.items():
        given = argparse_value(arguments, f"--{role}")
        if given is not None and given != getattr(config, role, given):
            changes |= {name: plain[name] for name in own if name in plain}
    return dataclasses.replace(config, **changes)


def argparse_value(arguments: Sequence[str], flag: str) -> str | None:
    """Return the value of `flag` in the arguments, given as `--flag value` or `--flag=value`."""
    for place, word in enumerate(arguments):
        if word == flag and place + 1 < len(arguments):
            return arguments[place + 1]
        if word.startswith(f"{flag}="):
            return word.partition("=")[2]
    return None


def _failed(error: BaseException, *, code: int) -> int:
    if os.environ.get("KD_KERAS_TRACEBACK") or interrupts.heard() is not None:
        raise error  # `cli.main` reports the signal
    print(f"kd-keras: {_sentence(error)}", file=sys.stderr)
    return code


def _sentence(error: BaseException) -> str:
    """Return an error's message; for TensorFlow's errors, without the graph node."""
    if not isinstance(error, Exception) or not _is_tensorflows(error):
        return str(error)
    said = str(error).split("\n\t [[")[0].strip()
    return f"TensorFlow failed with {type(error).__name__}: {said}"


def import_tensorflow_quietly() -> None:
    """Import TensorFlow without its start-up messages, unless the user has set its log level.

    C++ writes them before any Python setting takes effect, so the file descriptor of standard
    error is redirected meanwhile. If the import fails, they are shown.
    """
    if "TF_CPP_MIN_LOG_LEVEL" in os.environ:
        return
    os.environ["TF_CPP_MIN_LOG_LEVEL"] = "3"
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as greetings, _hidden(NOT_NEEDED):
        os.dup2(greetings.fileno(), 2)
        try:
            importlib.import_module("tensorflow")
        except Exception:
            greetings.seek(0)
            os.write(kept, greetings.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)


@contextlib.contextmanager
def _hidden(packages: Iterable[str]) -> Iterator[None]:
    """Let the import of packages fail inside the block, unless they are loaded already."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]


def _log_to_stderr() -> None:
    if not log.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter("%(asctime)s %(message)s", "%H:%M:%S"))
        log.addHandler(handler)
    log.setLevel(logging.INFO)
    warnings.showwarning = lambda message, *where: log.warning("%s", message)
    # TensorFlow counts the functions of all models as one, and mistakes a new model for a retracing
    logging.getLogger("tensorflow").addFilter(_is_no_retracing)
    log.propagate = False  # another package may have given the root logger a handler


def _is_no_retracing(record: logging.LogRecord) -> bool:
    return "triggered tf.function retracing" not in record.getMessage()
