"""Run each test file in a process of its own, as many at a time as there are cores.

    python tests/run.py [FILES OR FOLDERS] [OPTIONS OF PYTEST]

TensorFlow keeps what was traced and returns no memory to the system, so that a process for many
files only grows; and to import it takes seconds. So one process imports everything, and is then
forked for each file. It runs no operation itself: TensorFlow starts its threads at the first one,
and threads do not survive a fork.
"""

import gc
import importlib
import os
import pkgutil
import re
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple, NoReturn

TESTS = Path(__file__).parent
# They are started first: the last file to end should be a short one.
LONGEST = (
    *("test_docs.py", "tuning/test_distributed.py", "models/test_every_model.py"),
    *("recipes/test_distill.py", "studies/test_cifar.py", "cli/test_cli.py"),
    *("tuning/test_run.py", "tuning/test_tune_resume.py", "recipes/test_sweep.py"),
    *("studies/test_mhist.py", "recipes/test_plan_runs.py", "cache/test_build.py"),
    *("recipes/test_resume.py", "training/test_execution_training.py"),
    *("training/test_distiller_plans.py", "test_notebooks.py", "test_docstrings.py"),
    *("methods/test_deployed.py", "test_benchmarks.py", "methods/test_trained_contract.py"),
)
SLOWEST_SHOWN = 60

# in place of this folder, whose `tuning` would hide the package of that name
sys.path[0] = str(TESTS.parent)


class Ended(NamedTuple):
    """How the process of one file ended."""

    file: str
    seconds: float
    processor_seconds: float  # of its child processes too; unlike `seconds`, of no other's load
    megabytes: float
    failed: bool
    output: str


class Running(NamedTuple):
    """The process of one file, and where its output goes."""

    file: Path
    output: Path
    since: float


def import_everything() -> None:
    """Import the packages under test and whatever their tests import."""
    import keras_tuner  # noqa: F401
    import pytest  # noqa: F401
    import tensorflow_datasets  # noqa: F401
    from tensorflow.python.eager import context

    import kd_keras
    import tuning

    for package in (kd_keras, tuning):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not re.search(r"__main__|\.loaders\.", module.name):  # they are scripts
                importlib.import_module(module.name)
    if context.context()._context_handle is not None:
        raise RuntimeError("An import runs an operation of TensorFlow: no process can be forked.")
    gc.freeze()


def test_files(paths: list[Path]) -> list[Path]:
    """Return the test files under `paths`, those that take longest first."""
    files = {
        file for path in paths for file in (path.rglob("test_*.py") if path.is_dir() else [path])
    }
    order = {TESTS / name: place for place, name in enumerate(LONGEST)}
    return sorted(files, key=lambda file: (order.get(file, len(order)), -file.stat().st_size))


def run_file(file: Path, options: list[str], folder: Path) -> NoReturn:
    """Run one file in this process, the forked one, and end it."""
    import pytest

    opened = os.open(folder / "output", os.O_WRONLY | os.O_CREAT)
    os.dup2(opened, sys.stdout.fileno())
    os.dup2(opened, sys.stderr.fileno())
    temporary = f"--basetemp={folder / 'temporary'}"
    durations = ("--durations=10", "--durations-min=1")
    code = pytest.main(["-pno:cacheprovider", temporary, *durations, *options, str(file)])
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0 if code == pytest.ExitCode.NO_TESTS_COLLECTED else code)


def run_files(files: list[Path], options: list[str], folder: Path, at_once: int) -> list[Ended]:
    """Run the files, tell of each when it ends, and show the output of one that fails."""
    waiting, running, ended = files[::-1], dict[int, Running](), list[Ended]()
    while waiting or running:
        while waiting and len(running) < at_once:
            file = waiting.pop()
            place = folder / str(len(waiting))
            place.mkdir()
            pid = os.fork()
            if pid == 0:
                run_file(file, options, place)
            running[pid] = Running(file, place / "output", time.monotonic())
        pid, status, usage = os.wait4(-1, 0)
        over = running.pop(pid)
        done = Ended(
            str(over.file.relative_to(TESTS.parent)),
            time.monotonic() - over.since,
            usage.ru_utime + usage.ru_stime,
            usage.ru_maxrss / 1024,
            status != 0,
            over.output.read_text(errors="replace"),
        )
        if done.failed:
            print(done.output)
        used = f"{done.processor_seconds:.0f} s of processor time, {done.megabytes:,.0f} MB"
        print(f"{done.file}: {_last_line(done.output)}, {used}", flush=True)
        ended.append(done)
    return ended


def _last_line(output: str) -> str:
    lines = output.strip().splitlines()
    return lines[-1].strip("= ") if lines else "no output"


def summary(ended: list[Ended]) -> str:
    """Return the slowest tests, the longest files, the largest process, and what failed."""
    slow = [
        (float(match[1]), match[0])
        for done in ended
        for match in re.finditer(
            r"^([0-9.]+)s (?:call|setup|teardown) +tests.*$", done.output, re.M
        )
    ]
    largest = max(ended, key=lambda done: done.megabytes)
    longest = sorted(ended, key=lambda done: -done.processor_seconds)[:SLOWEST_SHOWN]
    failed = [done.file for done in ended if done.failed]
    return "\n".join(
        [
            "\nslowest tests:",
            *(line for _, line in sorted(slow, reverse=True)[:SLOWEST_SHOWN]),
            "\nlongest files, by processor time and by the clock:",
            *(f"{x.processor_seconds:6.1f} s  {x.seconds:6.1f} s  {x.file}" for x in longest),
            f"\nprocessor time of all: {sum(done.processor_seconds for done in ended):,.0f} s",
            f"\nlargest process: {largest.megabytes:,.0f} MB, {largest.file}",
            f"{len(ended)} files, {len(failed)} failed" + "".join(f"\n  {name}" for name in failed),
        ]
    )


def main(arguments: list[str]) -> int:
    """Run the files that are named, or all; return 1 if one failed."""
    paths = [Path(word).resolve() for word in arguments if Path(word).exists()]
    options = [word for word in arguments if not Path(word).exists()]
    import_everything()
    with tempfile.TemporaryDirectory() as folder:
        cores = len(os.sched_getaffinity(0))
        ended = run_files(test_files(paths or [TESTS]), options, Path(folder), cores)
    print(summary(ended))
    return int(any(done.failed for done in ended))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
