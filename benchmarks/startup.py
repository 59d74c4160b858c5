"""Start-up: imports, `kd-keras --help`, and the time until a command says something."""

import dataclasses
import functools
import os
import subprocess
import sys
import tempfile
import time

import tyro

from benchmarks import plots, results, timing

IMPORTS = {
    "import kd_keras": ("", "import kd_keras"),
    "kd_keras.Distiller, after TensorFlow": (
        "import keras, tensorflow",
        "import kd_keras; kd_keras.Distiller",
    ),
    "import keras, tensorflow": ("", "import keras, tensorflow"),
}
HELP, FIRST = "kd-keras --help", "the first word of a command"
# every command, with what it cannot do without
COMMANDS = {
    "distill": [],
    "sweep": [],
    "compare": [],
    "tune": [],
    "train": [],
    "evaluate": ["model.keras"],
    "export": ["model.keras", "folder"],
    "report": ["run"],
    "cache": ["list"],
    "benchmark": [],
    "list": [],
}
FIRST_WORD = 2.0
TARGETS = {"import kd_keras": 0.3, "kd_keras.Distiller, after TensorFlow": 0.3, HELP: 1.0}


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time imports, the command line's help, and the first word of every command, each in a new
    process, in turn."""


def fresh(before: str, statement: str) -> timing.Side:
    """Return a side that times `statement` in a new process, after the statement `before`."""
    code = f"{before}\nimport time\nstart = time.perf_counter()\n{statement}\n"
    code += "print(time.perf_counter() - start)"
    command = [sys.executable, "-c", code]

    def run() -> list[float]:
        done = subprocess.run(command, cwd=results.ROOT, check=True, capture_output=True, text=True)
        return [float(done.stdout.split()[-1])]

    return run


def show_help() -> float:
    """Time the whole command, the start of Python included."""
    command = [sys.executable, "-m", "kd_keras", "--help"]
    return timing.once(
        lambda: subprocess.run(command, cwd=results.ROOT, check=True, capture_output=True)
    )


def first_words(command: str) -> list[float]:
    """Time a command until it says something, the start of Python included, and end it."""
    words = [sys.executable, "-m", "kd_keras", command, *COMMANDS[command]]
    with tempfile.TemporaryDirectory() as folder:
        environment = {**os.environ, "PYTHONPATH": str(results.ROOT)}
        start = time.perf_counter()
        with subprocess.Popen(
            words, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        ) as process:
            assert process.stdout is not None
            process.stdout.read(1)
            seconds = time.perf_counter() - start
            process.kill()
    return [seconds]


def measure(settings: Settings) -> results.Case:
    sides = {name: fresh(*parts) for name, parts in IMPORTS.items()}
    sides[HELP] = lambda: [show_help()]
    for command in COMMANDS:
        sides[f"kd-keras {command}"] = functools.partial(first_words, command)
    times = timing.in_turn(sides, settings.rounds_or(7))
    case = results.Case("startup", "Start-up", "s", times)
    case.findings += [
        results.Finding(name, times[name], "s", **results.at_most(target))
        for name, target in TARGETS.items()
    ]
    slowest = [max(each) for each in zip(*(times[f"kd-keras {c}"] for c in COMMANDS), strict=True)]
    case.findings.append(results.Finding(FIRST, slowest, "s", **results.at_most(FIRST_WORD)))
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("startup", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.startup", description=__doc__))
