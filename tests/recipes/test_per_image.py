"""What a run keeps of each test image: tables, pictures, probabilities."""

import dataclasses
import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from kd_keras import data
from kd_keras.config import DistillConfig
from kd_keras.evaluation import operating
from kd_keras.recipes import keeping, per_image, results, setup, stored_predictions
from kd_keras.recipes.per_image import Odd
from kd_keras.recipes.predictions import Predictions

ROLES = ("teacher", "alone", "distilled")


def predicted(task, roles=ROLES, seeds=(5, 6)):
    """Predictions of random models that know something of the labels."""
    rng, kept = np.random.default_rng(0), Predictions(task)

    def logits(split):
        return rng.normal(size=(len(split), task.classes)) + 2 * np.eye(task.classes)[split.labels]

    for role in roles:
        for seed in seeds:
            kept.keep(role, seed, logits(task.test), lambda: logits(task.validation))
    return kept


@pytest.fixture(scope="module")
def two():
    """Two classes, and predictions of them."""
    return predicted(data.load("digits_halves"))


# --- probabilities ---


def test_the_mean_over_seeds_is_that_of_probabilities():
    task = data.load("digits")
    kept = Predictions(task)
    logits = np.random.default_rng(0).normal(size=(2, len(task.test), 10))
    for seed, rows in enumerate(logits):
        kept.keep("alone", seed, rows)
    shares = np.exp(logits) / np.exp(logits).sum(axis=2, keepdims=True)
    np.testing.assert_allclose(kept.means("alone"), shares.mean(axis=0), atol=1e-6)
    assert kept.operating("alone") is None  # ten classes


def test_the_scores_of_two_classes_are_stored_and_read(two, tmp_path):
    two.write(tmp_path)
    scores = stored_predictions.read_scores(tmp_path)
    np.testing.assert_array_equal(scores.labels, two.task.test.labels)
    np.testing.assert_array_equal(scores.validation_labels, two.task.validation.labels)
    assert [list(scores.test[role]) for role in ROLES] == [[5, 6]] * 3
    np.testing.assert_allclose(
        np.mean([scores.test["alone"][seed] for seed in (5, 6)], axis=0),
        two.means("alone")[:, 1],
        atol=1e-6,
    )
    assert scores.validation["alone"][5].shape == (288,)
    # and what was stored before is there as before
    labels, classes = stored_predictions.read(tmp_path)
    np.testing.assert_array_equal(labels, two.task.test.labels)
    np.testing.assert_array_equal(classes["alone"][5], scores.test["alone"][5] > 0.5)


def test_a_file_of_an_earlier_version_is_read(tmp_path):
    names = np.array(json.dumps([["alone", 0]]))
    arrays = {"0": np.array([1, 0], "uint8"), "labels": np.array([1, 1]), "models": names}
    np.savez_compressed(tmp_path / "predictions.npz", **arrays)
    labels, found = stored_predictions.read(tmp_path)
    assert (labels.tolist(), found["alone"][0].tolist()) == ([1, 1], [1, 0])
    assert stored_predictions.read_scores(tmp_path) is None
    assert stored_predictions.read_scores(tmp_path / "none") is None


def test_the_threshold_of_validation_is_used_on_test(two):
    found = two.operating("distilled")
    assert (found["positive"], found["chosen_by"]) == ("5 to 9", operating.CHOSEN_BY)
    for point in found["seeds"]:
        seed, truth = point.pop("seed"), two.task.test.labels == 1
        on_validation = two._on_validation["distilled"][seed]
        chosen = operating.youden(two.task.validation.labels == 1, on_validation)
        assert point == operating.at(chosen, truth, two._scores["distilled"][seed])
    images = found["sensitivity"]["images"], found["specificity"]["images"]
    assert images == (180, 180)


def test_without_both_classes_in_validation_no_threshold_is_chosen(tmp_path):
    task = data.load("digits_halves")
    one = task.validation.rows(np.flatnonzero(task.validation.labels == 0))
    kept = predicted(dataclasses.replace(task, validation=one))
    assert kept.operating("alone") is None
    kept.write(tmp_path)
    scores = stored_predictions.read_scores(tmp_path)
    assert scores.validation_labels is None
    assert scores.test["alone"][5].shape == (360,)


def test_a_teacher_of_one_seed_stands_beside_every_student():
    task = data.load("digits_halves")
    kept = predicted(task, roles=("alone",))
    right = np.eye(2)[task.test.labels]
    kept.keep("teacher", 0, right)
    found = kept.difference("teacher", "alone")
    wrong = [1 - (kept._kept["alone", seed] == task.test.labels).mean() for seed in (5, 6)]
    assert found["by_seed"] == pytest.approx(wrong)


# --- tables ---


def test_both_tables_hold_the_same_per_image(two, tmp_path):
    names = [f"{number}.png" for number in range(360)]
    per_image.write_tables(two, names, tmp_path)
    csv, parquet = pd.read_csv(tmp_path / per_image.CSV), pd.read_parquet(
        tmp_path / per_image.PARQUET
    )  # fmt: skip
    assert list(csv) == list(parquet)
    assert list(csv)[:5] == [
        *("image", "label", "teacher_predicted", "teacher_probability"),
        "teacher_probability_of_label",
    ]
    assert csv["image"].tolist() == parquet["image"].tolist() == names
    assert csv["label"].tolist() == [two.task.class_names[k] for k in two.task.test.labels]
    means = two.means("distilled")
    for table in (csv, parquet):
        np.testing.assert_allclose(table["distilled_probability"], means.max(axis=1), rtol=1e-5)
        right = table["distilled_predicted"] == table["label"]
        of_label = table["distilled_probability_of_label"]
        np.testing.assert_allclose(of_label[right], table["distilled_probability"][right])
        assert (of_label[~right] <= 0.5).all()


def test_images_are_named_by_their_files_or_by_their_indices(drawings):
    config = DistillConfig(task="folder", data_dir=drawings, image_size=8)
    names = per_image.names_of(setup.read_task(config))
    assert sorted(names) == [f"test/{c}/{i:02}.png" for c in ("dark", "light") for i in range(6)]
    loaded = setup.load_task(config)  # decoded into memory
    assert per_image.names_of(loaded) == names
    of_class = [name.split("/")[1] for name in names]
    assert of_class == [loaded.class_names[k] for k in loaded.test.labels]
    assert per_image.names_of(setup.load_task(DistillConfig()))[:3] == ("0", "1", "2")


# --- pictures ---


def test_the_worst_come_first_and_no_image_twice():
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, 200)
    student, teacher = rng.dirichlet(np.ones(3), (2, 200))
    odd = Odd.of(labels, student, teacher, each=20)
    of_label = student[odd.errors, labels[odd.errors]]
    assert (student[odd.errors].argmax(axis=1) != labels[odd.errors]).all()
    assert (np.diff(of_label) >= 0).all()
    wrong = student.argmax(axis=1) != labels
    assert of_label.max() <= np.sort(student[wrong, labels[wrong]])[19]
    theirs, ours = (p[odd.disagreements].argmax(axis=1) for p in (teacher, student))
    assert (theirs != ours).all()
    assert not set(odd.errors) & set(odd.disagreements)
    assert len(Odd.of(labels, student, None).disagreements) == 0
    perfect = Odd.of(labels, np.eye(3)[labels], np.eye(3)[labels])
    assert len(perfect.errors) == len(perfect.disagreements) == 0


def test_pictures_are_those_of_the_images_as_the_models_get_them(two, tmp_path):
    names = [str(number) for number in range(360)]
    found = per_image.write_pictures(two, names, "distilled", tmp_path)
    shown = [*found["errors"], *found["disagreements"]]
    assert 0 < len(shown) <= 2 * per_image.EACH
    assert {one["file"] for one in shown} == {
        path.relative_to(tmp_path).as_posix() for path in (tmp_path / "thumbnails").iterdir()
    }
    for one in shown:
        row = int(one["image"])
        with Image.open(tmp_path / one["file"]) as picture:
            np.testing.assert_array_equal(picture, two.task.test.images[row, ..., 0])
        assert one["label"] == two.task.class_names[two.task.test.labels[row]]
    for one in found["errors"]:
        assert one["predicted"]["distilled"][0] != one["label"]
    for one in found["disagreements"]:
        assert one["predicted"]["distilled"][0] != one["predicted"]["teacher"][0]


def test_a_large_picture_is_made_small():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1, 300, 200, 3), "uint8")
    assert per_image._thumbnail(pixels[0]).size == (64, 96)


# --- the results ---


def test_the_results_gain_what_follows_from_the_predictions(two, tmp_path):
    entries = {role: {"name": "mlp", "cost": {}, "seeds": [], "summary": {}} for role in ROLES}
    facts = results.task_facts(two.task)
    before = {"task": facts, "models": entries, "export": None, "verdict": None}
    found = keeping.completed(before, two, tmp_path, student="distilled")
    assert {path.name for path in tmp_path.iterdir()} == {
        *("predictions.npz", "predictions.csv", "predictions.parquet", "thumbnails"),
    }
    assert json.loads(json.dumps(found)) == found
    assert {name: found[name] for name in ("task", "export", "verdict")} == {
        name: before[name] for name in ("task", "export", "verdict")
    }
    assert found["models"]["alone"]["operating"] == two.operating("alone")
    assert found["teacher_over"] == {"alone": two.difference("teacher", "alone")}
    assert found["examples"]["student"] == "distilled"
    assert isinstance(found["findings"], list)
