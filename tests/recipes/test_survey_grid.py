"""The survey's grid of knowledge and scheme: every cell trains, by what it says, from what it says.

Gou, Yu, Maybank and Tao, *Knowledge Distillation: A Survey* (2021).
"""

import re
from pathlib import Path

import keras
import numpy as np
import pytest
from tiny_runs import tiny

from kd_keras import methods
from kd_keras.recipes import setup
from kd_keras.recipes.learners import TrainerPool
from kd_keras.recipes.runs import RunFolder
from kd_keras.recipes.training import train

PAGE = Path(__file__).parents[2] / "docs" / "methods" / "README.md"
CELLS = {
    "response offline": ("kd", ()),
    "response online": ("dml", ()),
    "response self": ("born_again", ("generations=2",)),
    "response self within": ("byot", ("feature_weight=1e-12",)),
    "feature offline": ("hint", ()),
    "feature online": ("dml", ("method=hint",)),
    "feature self": ("byot", ("answer_weight=0", "feature_weight=0.01")),
    "feature self of generations": ("born_again", ("method=at", "generations=2")),
    "relation offline": ("rkd", ()),
    "relation online": ("dml", ("method=rkd",)),
    "relation self": ("born_again", ("method=sp", "generations=2")),
}


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    return setup.load_task(tiny(tmp_path_factory.mktemp("task")))


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_a_cell_of_the_grid_trains(cell, task, tmp_path):
    name, knobs = CELLS[cell]
    config = tiny(
        tmp_path,
        method=name,
        method_knobs=knobs,
        student="lenet5",
        student_knobs=(),
        epochs=3,
    )
    teacher = setup.build_model("cnn", ("width=0.25",), None, task, 1)
    before = teacher.get_weights()
    student = setup.build_model("lenet5", (), None, task, 0)
    start = student.get_weights()
    roles = setup.roles(config, setup.taught(config)[0][0], student, teacher, task)
    plan = setup.plan(config, epochs=3).stages(roles)
    folder = RunFolder(config)
    matched = []
    for stage in plan:
        learner = TrainerPool(config, task).distilled(stage.name, 0, stage, 0.0)
        train(learner, task, config, folder, progress=[Losses(matched)])
    scheme = cell.split()[1]
    from_teacher = [stage.teacher is teacher and bool(stage.method.teacher_taps) for stage in plan]
    assert from_teacher == {"offline": [True], "online": [False]}.get(
        scheme, [True, False] if name == "born_again" else [False]
    )
    assert all(np.array_equal(a, b) for a, b in zip(teacher.get_weights(), before, strict=True))
    assert not np.array_equal(student.get_weights()[0], start[0])
    assert len(matched) == 3 * len(plan)
    assert matched[-1] < matched[-3]


class Losses(keras.callbacks.Callback):
    """Notes what was matched, epoch by epoch."""

    def __init__(self, found):
        super().__init__()
        self._found = found

    def on_epoch_end(self, epoch, logs=None):
        self._found.append(logs["distillation_loss"])


def test_the_page_fills_every_cell_with_methods_that_are_there():
    rows = [
        line.strip("| \n").split(" | ")
        for line in PAGE.read_text().splitlines()
        if line.startswith(("| response", "| feature", "| relation"))
    ]
    assert [len(row) for row in rows] == [4, 4, 4]
    for row in rows:
        for cell in row[1:]:
            linked = re.findall(r"\[([\w, ]+)\]\(\w+\.md\)", cell)
            assert linked
            named = {name for text in linked for name in text.split(", ")}
            assert named | set(re.findall(r"`(\w+)`", cell)) <= set(methods.METHODS)
