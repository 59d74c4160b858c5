"""The page of the architecture tells the truth: a training walks the way that it describes."""

import importlib
import inspect
import re
import sys
from pathlib import Path

import keras
import numpy as np

import kd_keras as kd

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs/architecture.md"
STEP = re.compile(r"^(\d+)\. \[`([\w.]+)`\]\(\.\./([\w/.]+)#L(\d+)\): .+$", re.MULTILINE)


def steps():
    """The steps of the page: `(function, file, line)`."""
    found = STEP.findall(PAGE.read_text(encoding="utf-8"))
    assert [int(number) for number, *_ in found] == list(range(1, len(found) + 1))
    return [(name, path, int(line)) for _, name, path, line in found]


def defined(name, path):
    """The function that a step names, such as `Trainer.fit` of `kd_keras/training/trainer.py`."""
    found = importlib.import_module(path.removesuffix(".py").replace("/", "."))
    for part in name.split("."):
        found = inspect.getattr_static(found, part)
    return getattr(found, "__func__", found)


def with_lines(text):
    """The page with the line of each function as it is now."""

    def filled(step):
        _, name, path, line = step.groups()
        return step[0].replace(f"#L{line})", f"#L{inspect.getsourcelines(defined(name, path))[1]})")

    return STEP.sub(filled, text)


def test_every_link_leads_to_the_line_of_its_function():
    assert 10 <= len(steps()) <= 15
    text = PAGE.read_text(encoding="utf-8")
    assert with_lines(text) == text, "run `python tests/test_architecture.py`"


def test_a_training_walks_this_way():
    """Each step is called for the first time after the one before it."""
    wanted = {defined(name, path).__code__: name for name, path, _ in steps()}
    seen = []

    def watch(frame, event, _):
        if event == "call" and frame.f_code in wanted and wanted[frame.f_code] not in seen:
            seen.append(wanted[frame.f_code])

    x, y = np.random.default_rng(0).integers(0, 256, (32, 8, 8, 1)), np.arange(32) % 10
    teacher = kd.models.build("cnn", input_shape=(8, 8, 1), classes=10, width=0.25)
    student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(8,))
    distiller = kd.Distiller(student=student, teacher=teacher)
    distiller.compile(keras.optimizers.SGD(), run_eagerly=True)
    before = sys.getprofile()
    sys.setprofile(watch)
    try:
        distiller.fit(x, y, verbose=0)
    finally:
        sys.setprofile(before)
    assert seen == [name for name, *_ in steps()]


if __name__ == "__main__":
    PAGE.write_text(with_lines(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
