"""Start-up: the time that importing this library adds to TensorFlow's, and `kd-keras --help`."""

import dataclasses
import subprocess
import sys

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
HELP = "kd-keras --help"
TARGETS = {"import kd_keras": 0.3, "kd_keras.Distiller, after TensorFlow": 0.3, HELP: 1.0}


@dataclasses.dataclass(frozen=True)
class Settings(timing.Settings):
    """Time imports and the command line's help, each in a new process, in turn."""


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


def measure(settings: Settings) -> results.Case:
    sides = {name: fresh(*parts) for name, parts in IMPORTS.items()}
    sides[HELP] = lambda: [show_help()]
    times = timing.in_turn(sides, settings.rounds_or(7))
    case = results.Case("startup", "Start-up", "s", times)
    case.findings += [
        results.Finding(name, times[name], "s", **results.at_most(target))
        for name, target in TARGETS.items()
    ]
    return case


def main(settings: Settings) -> None:
    plots.draw(results.write("startup", [measure(settings)], settings))


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.startup", description=__doc__))
