"""Studies: parts share runs, go on after an interruption, and leave tables, plots and a page."""

import json
import os

import pytest

from kd_keras import studies
from kd_keras.cli import study as command
from kd_keras.config import CompareConfig, StudyConfig, TrainConfig
from kd_keras.report import drawings
from kd_keras.studies import Part, Plot, Section, Study, Table, reading, work
from kd_keras.studies.mnist import MNIST

SMALL = {"task": "digits", "limit": 64, "epochs": 1, "batch_size": 16}


def planned(study):
    config = CompareConfig(
        **SMALL, teacher="lenet5", methods=("kd",), students=("mlp:hidden=8,",), seeds=study.seeds
    )
    return {"both": config}


def make(study, runs):
    found = runs("both")
    row = reading.best(found["sweep"]["settings"])
    accuracy = reading.spread(found["models"][row["label"]]["summary"]["accuracy"])
    line = drawings.Line("kd", [1, 2], [0.5, 0.6], [0.1, 0.1])
    figure = drawings.lines([line], [drawings.Level("teacher", 0.7, 0.1)], x="x", y="y", base=2)
    table = Table("table", "A table", ("student", "accuracy"), (("mlp|8", accuracy),))
    return Section(("A sentence.",), (table,), (Plot("plot", "A plot.", figure),))


TWO = Study(
    "two",
    "Two parts",
    tuple(Part(name, f"Part {name}", "Why?", planned, make) for name in ("one", "other")),
)


@pytest.mark.slow
def test_parts_share_a_run_and_leave_their_files(tmp_path, caplog):
    caplog.set_level("INFO")
    config = StudyConfig(study="two", seeds=(0,), out=tmp_path / "study", part=("one",))
    page = studies.run(TWO, config)
    assert "Not run yet: other." in page.read_text()
    assert "part one: about 1 min" in caplog.text
    metrics = config.run_folder("both") / "metrics.jsonl"
    before = metrics.stat().st_mtime_ns
    caplog.clear()
    page = studies.run(TWO, StudyConfig(study="two", seeds=(0,), out=tmp_path / "study"))
    assert metrics.stat().st_mtime_ns == before  # nothing was trained again
    assert "about 1 min" not in caplog.text
    report = (tmp_path / "study/report.md").read_text()
    assert "![Part one](one/plot.png)" in report
    assert "| mlp\\|8 |" in report
    assert "$ kd-keras study two --part other --seeds 0\n" in report
    for part in ("one", "other"):
        folder = tmp_path / "study" / part
        assert {path.name for path in folder.iterdir()} == {
            *("section.json", "table.csv", "table.md", "plot.png"),
        }
        kept = json.loads((folder / "section.json").read_text())
        assert kept["title"] in page.read_text()
        accuracy = kept["tables"][0]["rows"][0][1]
        assert (folder / "table.csv").read_text() == f"student,accuracy\nmlp|8,{accuracy}\n"
        assert (folder / "table.md").read_text().endswith(f"| mlp\\|8 | {accuracy} |\n")


def test_a_part_that_is_not_there_is_named_before_anything_is_run(tmp_path):
    config = StudyConfig(study="two", part=("othre",), out=tmp_path / "study")
    with pytest.raises(ValueError, match=r"part of the study 'two'.*'othre'.*'other'"):
        studies.run(TWO, config)
    assert not (tmp_path / "study").exists()


def test_the_command_line_knows_every_study():
    assert tuple(command.STUDIES) == tuple(studies.STUDIES)


def test_the_trainings_of_a_run_are_counted():
    config = CompareConfig(
        methods=("kd", "rkd"), students=("mlp", "lenet5"), alphas=(0.1, 0.5), seeds=(0, 1), epochs=3
    )
    found = [(str(one.model), one.epochs, one.times) for one in work.trainings(config)]
    assert found == [("cnn", 3, 1), ("mlp", 3, 2 * (1 + 4)), ("lenet5", 3, 2 * (1 + 4))]
    config = CompareConfig(
        methods=("kd", "takd:assistants=cnn(width=0.5),lenet5"), students=("mlp",), seeds=(0,)
    )
    models = [str(one.model) for one in work.trainings(config)]
    assert models == ["cnn", "mlp", "cnn:width=0.5", "lenet5"]
    config = TrainConfig(model="cnn", seeds=(0, 1, 2), epochs=2, head_epochs=1)
    assert [tuple(one)[1:] for one in work.trainings(config)] == [(3, 3)]


def test_the_parts_of_mnist_train_one_teacher():
    study = StudyConfig(study="mnist", seeds=(0, 1, 2))
    planned = [runs for part in MNIST.parts if "teacher" in (runs := part.planned(study))]
    assert len(planned) >= 3
    assert {len({str(runs["teacher"])}) for runs in planned} == {1}
    for runs in planned:
        for name, config in runs.items():
            if name != "teacher":
                assert config.teacher == str(study.run_folder("teacher") / "model.keras")


@pytest.mark.slow
@pytest.mark.skipif("TFDS_DATA_DIR" not in os.environ, reason="needs MNIST, which TFDS downloads")
def test_mnist_in_a_minute(tmp_path):
    # searches take the most of a quick test, and the study on photographs tests theirs
    parts = [part for part in MNIST.parts if part.name != "methods"]
    names = tuple(part.name for part in parts)
    config = StudyConfig(study="mnist", smoke=True, part=names, out=tmp_path / "study")
    page = studies.run(MNIST, config).read_text()
    for part in parts:
        assert part.title in page


def test_a_heat_map_shows_every_number():
    figure = drawings.heat_map(
        [[0.1, 0.2], [0.3, 0.4]], rows=["a", "b"], columns=["1", "2"], y="y", x="x", title="t"
    )
    shown = {text.get_text() for text in figure.axes[0].texts}
    assert shown == {"0.1000", "0.2000", "0.3000", "0.4000"}
