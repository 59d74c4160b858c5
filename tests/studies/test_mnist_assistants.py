"""Assistants on MNIST: which runs are planned, and where assistants are said to win."""

import numpy as np
import pytest

from kd_keras.config import StudyConfig
from kd_keras.recipes import stored_predictions
from kd_keras.recipes.results import spread
from kd_keras.studies import mnist_assistants
from kd_keras.studies.mnist_assistants import ASSISTANTS, WIDTHS, ways

LABELS = np.arange(400) % 10


def test_every_student_is_taught_directly_and_through_all_larger_ones():
    study = StudyConfig(study="mnist", seeds=(0, 1))
    planned = ASSISTANTS.planned(study)
    assert set(planned) == {"teacher", *(f"assistants-{width}" for width in WIDTHS)}
    assert planned["assistants-784"].methods == ("kd",)
    chain = "takd:assistants=mlp(hidden=784,784),mlp(hidden=128,128),mlp(hidden=32,32)"
    assert planned["assistants-8"].methods[-1] == chain
    assert [len(planned[f"assistants-{width}"].methods) for width in WIDTHS] == [1, 2, 4, 4]


def predicted(errors, seed):
    """Predictions of which some are wrong, other ones for each seed."""
    wrong = np.random.default_rng(seed).permutation(len(LABELS)) < errors
    return (LABELS + wrong) % 10


@pytest.fixture
def finished(tmp_path):
    """A study whose runs are finished: the chain to the smallest student is far better."""
    study = StudyConfig(study="mnist", seeds=(0, 1, 2), out=tmp_path)

    def runs(name, **changes):
        if name == "teacher":
            return {}
        width = int(name.removeprefix("assistants-"))
        student, folder = f"mlp:hidden={width},{width}", study.run_folder(name)
        methods = [way.method for way in ways(WIDTHS, width)]
        errors = dict.fromkeys(methods, 100)
        if width == 8:
            errors[methods[-1]] = 10
        kept = {(m, s): predicted(n, s) for m, n in errors.items() for s in study.seeds}
        folder.mkdir(parents=True)
        stored_predictions.write(folder, LABELS, kept)
        alone = {"cost": {"parameters": 50 * width}, "summary": {"accuracy": spread([0.5, 0.6])}}
        verdict = {"gain": 0.1, "interval": [0.0, 0.2], "beats": False}
        rows = [
            {"label": m, "method": m, "test": spread([1 - n / 400]), "verdict": verdict}
            for m, n in errors.items()
        ]
        sweep = {"alone": [{"student": student, "label": "alone"}], "settings": rows}
        return {"sweep": sweep, "models": {"alone": alone}}

    return mnist_assistants._make(study, runs)


def test_each_student_is_told_whether_an_assistant_beats_its_teacher(finished):
    wide, middle, smallest, end = finished.reading
    assert wide.startswith("With 128 units per layer, an assistant of 784 units does not beat")
    assert middle.startswith("With 32 units per layer, neither an assistant of 784 units nor an")
    assert smallest.startswith(
        "With 8 units per layer, direct distillation is beaten by the chain 784, 128, 32 by "
        "+0.2250 ("
    )
    assert end == "Assistants win where the student has 8 units per layer."


def test_the_table_has_a_row_for_each_way(finished):
    (table,) = finished.tables
    every = ("alone", "direct", "widest", "next size", "chain")
    assert [row[1] for row in table.rows] == [*every[:2], *every[:3], *every, *every]
    assert {len(row) for row in table.rows} == {len(table.columns)}
    assert [plot.name for plot in finished.plots] == ["shrinking", "over-direct"]
