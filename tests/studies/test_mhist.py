"""The study on MHIST: what its parts plan, how their tables are read, and a rehearsal."""

import html
import json

import numpy as np
import pytest

from kd_keras import studies
from kd_keras.config import StudyConfig
from kd_keras.recipes import stored_predictions
from kd_keras.studies import mhist, mhist_runs, two_classes, work
from kd_keras.studies.mhist import MHIST
from kd_keras.studies.parts import Section, Table

FULL = StudyConfig(study="mhist", seeds=(0, 1, 2))
REHEARSAL = StudyConfig(study="mhist", rehearsal=True)


def planned(study):
    return {part.name: part.planned(study) for part in MHIST.parts}


def test_the_parts_share_one_teacher_and_its_students_at_every_temperature():
    for study in (FULL, REHEARSAL):
        for name, runs in planned(study).items():
            if "teacher" in runs:
                assert runs["teacher"] == planned(study)["table"]["teacher"], name
                assert runs["temperatures"] == planned(study)["table"]["temperatures"], name
    teacher = str(FULL.run_folder("teacher") / "model.keras")
    assert planned(FULL)["votes"]["votes"].teacher == teacher


def test_the_full_study_is_that_of_the_assignment():
    runs = planned(FULL)["table"]
    teacher, students = runs["teacher"], runs["temperatures"]
    assert (teacher.model, teacher.weights) == ("resnet50v2", "imagenet")
    assert (teacher.head_epochs, teacher.head_learning_rate) == (10, 1e-4)
    assert (teacher.epochs, teacher.learning_rate, teacher.batch_size) == (25, 1e-5, 32)
    assert students.students == ("mobilenetv2:weights=imagenet",)
    assert (students.head_learning_rate, students.learning_rate) == (1e-3, 1e-4)
    assert students.temperatures == (1, 2, 4, 8, 16, 32, 64)
    assert students.class_weights
    assert teacher.class_weights
    assert not planned(FULL)["imbalance"]["unweighted"].class_weights
    assert planned(FULL)["votes"]["votes"].soft_labels


def test_models_start_from_imagenet_or_not_two_by_two():
    runs = planned(FULL)["transfer"]
    random = {name for name, run in runs.items() if getattr(run, "weights", run) is None}
    assert random == {"teacher-random"}
    own = {"student-random", "both-random"}
    assert {name for name in runs if getattr(runs[name], "students", ()) == ("mobilenetv2",)} == own
    assert all(runs[name].head_epochs == 0 for name in (*own, "teacher-random"))
    teacher = str(FULL.run_folder("teacher-random") / "model.keras")
    assert runs["only-teacher-random"].teacher == runs["both-random"].teacher == teacher
    assert planned(REHEARSAL)["transfer"] == {}


def test_an_assistant_is_named_with_its_options():
    assert mhist_runs.FULL.between == "efficientnetv2b0(weights=imagenet)"
    assert mhist_runs.SMALL.between == "resnet8(width=0.5)"
    _, assisted = mhist_runs.assisted(REHEARSAL, 16.0)
    assert assisted == "takd:assistants=resnet8(width=0.5):method=kd(temperature=16)"


def test_a_rehearsal_trains_small_models_on_small_images():
    for runs in planned(REHEARSAL).values():
        for run in runs.values():
            assert run.image_size == 96
            names = {str(one.model) for one in work.trainings(run)}
            assert names <= {"resnet8", "resnet8:width=0.5", "resnet8:width=0.25"}


def test_a_rehearsal_has_its_own_folder_and_draws_its_own_images(tmp_path):
    assert str(REHEARSAL.folder) == "studies/mhist-rehearsal"
    config = StudyConfig(study="mhist", rehearsal=True, data_dir=tmp_path)
    with pytest.raises(ValueError, match="`rehearsal` draws its own images"):
        studies.run(MHIST, config)
    config = StudyConfig(study="mnist", rehearsal=True, out=tmp_path / "study")
    with pytest.raises(ValueError, match="'mnist' has no rehearsal"):
        studies.run(studies.STUDIES["mnist"], config)


def test_a_rehearsal_says_of_each_table_that_images_are_drawn():
    section = Section(("A sentence.",), (Table("t", "T", ("", "AUC"), (("a", "1"),), "Note."),))
    said = mhist._said(section)
    assert said.reading == (mhist.DRAWN, "A sentence.")
    (table,) = said.tables
    assert table.csv().startswith("(drawn images),AUC")
    assert table.title == "T (drawn images)"
    assert table.note.startswith(mhist.DRAWN)


# --- two classes ---


def model(folder, role, by_seed, labels):
    """A model with stored predictions, beside another one of the same run."""
    kept = {(role, seed): logits for seed, logits in enumerate(by_seed)}
    stored_predictions.write(folder, labels, kept)
    return two_classes.Model(role, folder, role, {})


@pytest.fixture
def labels():
    return (np.arange(200) % 3 == 0).astype(int)


def noisy(labels, noise, seed):
    rng = np.random.default_rng(seed)
    margin = 2 * labels - 1 + rng.normal(0, noise, len(labels))
    return np.stack([-margin, margin], 1).astype("float32")


def test_an_interval_holds_the_mean_over_the_seeds(tmp_path, labels):
    (tmp_path / "a").mkdir()
    one = model(tmp_path / "a", "a", [noisy(labels, 1.0, s) for s in range(3)], labels)
    low, high = two_classes.interval(one, "auc")
    assert 0.8 < low < 0.92 < high < 1.0
    assert high - low < 0.15


def test_two_runs_are_compared_on_the_same_images(tmp_path, labels):
    folders = [tmp_path / name for name in "abc"]
    for folder in folders:
        folder.mkdir()
    good = model(folders[0], "good", [noisy(labels, 0.5, s) for s in range(3)], labels)
    poor = model(folders[1], "poor", [noisy(labels, 2.0, s) for s in range(3)], labels)
    found = two_classes.difference("auc", good, poor)
    assert found["beats"]
    assert found["gain"] > 0.1
    other = model(folders[2], "other", [noisy(labels, 2.0, 0)], labels)
    with pytest.raises(ValueError, match="same test images and seeds"):
        two_classes.difference("auc", good, other)


def test_rows_are_grouped_by_how_many_annotators_agree():
    groups = mhist._agreements(np.array([0, 3, 4, 7, 2]))
    assert {count: rows.tolist() for count, rows in groups.items()} == {
        4: [1, 2], 5: [4], 7: [0, 3],
    }  # fmt: skip


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*is not the official MHIST")
def test_a_small_rehearsal_fills_every_table_and_plot(tmp_path):
    config = StudyConfig(study="mhist", rehearsal=True, smoke=True, out=tmp_path / "study")
    page = html.unescape(studies.run(MHIST, config).read_text())
    assert "a rehearsal on drawn images" in page
    for part in MHIST.parts:
        kept = json.loads((config.folder / part.name / "section.json").read_text())
        assert kept["title"] in page
        assert kept["reading"][0] == mhist.DRAWN
        if part.name != "transfer":
            assert kept["tables"]
        for table in kept["tables"]:
            assert all(cell for row in table["rows"] for cell in row), table["title"]
        for plot in kept["plots"]:
            assert (config.folder / part.name / plot["file"]).stat().st_size > 5000
