"""`kd-keras explain`, on runs whose models are saved and not trained."""

import csv
import json

import keras
import numpy as np
import pytest
from PIL import Image

import kd_keras as kd
from kd_keras.config import DistillConfig, ExplainConfig, TrainConfig, as_dict
from kd_keras.recipes import explaining, finished, reading, saving
from kd_keras.recipes.explaining import run as look
from kd_keras.report import html

ROLES = ("teacher", "alone", "distilled")


def made(folder, models, config=None, **task):
    """A finished run of the digits, with these models by role."""
    config = config or DistillConfig(limit=60)
    folder.mkdir(parents=True, exist_ok=True)
    for role, (name, seed) in models.items():
        keras.utils.set_random_seed(seed)
        model = kd.models.build(name, input_shape=(8, 8, 1), classes=10)
        saving.save(model, folder / finished.MODELS[role])
    known = reading.read_task(config)
    facts = {"name": known.name, "fingerprint": known.fingerprint, **task}
    results = {"task": facts, "models": {role: {"seeds": [{}]} for role in models}}
    (folder / "config.json").write_text(json.dumps(as_dict(config), default=str))
    (folder / "results.json").write_text(json.dumps(results))
    return folder


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two convolutional students and their teacher."""
    models = {"teacher": ("cnn", 0), "alone": ("lenet5", 1), "distilled": ("lenet5", 2)}
    return made(tmp_path_factory.mktemp("three") / "run", models)


def test_the_command_writes_panel_table_numbers_and_page(three, main):
    code, said, logged = main("explain", three, "--images", 4, "--sample", 20)
    assert (code, logged[9:]) == (0, f"looking at what the models of {three} look at\n")
    assert said.startswith(f"page in {three}/explain/index.html\n\n")
    for word in ("correlation with teacher", "pointing", "maps that are zero", "Maps: Grad-CAM"):
        assert word in said
    folder = three / "explain"
    assert {path.name for path in folder.iterdir()} == set(kd.recipes.runs.EXPLAIN)
    found = json.loads((folder / "explain.json").read_text())
    assert (found["images"], len(found["shown"])) == (20, 4)
    assert list(found["models"]) == list(ROLES)
    assert found["models"]["alone"]["similarity_to_teacher"]["images"] <= 20
    with (folder / "images.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["image"] for row in rows if row["shown"] == "1"] == sorted(
        found["shown"], key=[row["image"] for row in rows].index
    )
    known = [float(x) for row in rows if (x := row["alone_correlation_with_teacher"])]
    mean = found["models"]["alone"]["similarity_to_teacher"]["mean"]
    assert np.mean(known) == pytest.approx(mean, abs=1e-5)
    with Image.open(folder / "panel.png") as picture:
        assert picture.width > 400
    page = (folder / "index.html").read_text()
    assert html.MADE_BY in page
    assert "What the models look at: digits" in page


def predicting(classes):
    """What is known of a model that predicts these classes."""
    maps, logits = np.ones((len(classes), 2, 2), "float32"), np.eye(3, dtype="float32")[classes]
    return kd.evaluation.explain.Explanation(maps, classes, logits, "gradcam", "stage1", "")


@pytest.mark.parametrize(
    ("differing", "count", "want"),
    [
        ([1, 4, 5], 4, [1, 4, 0, 2]),  # half of those shown
        ([3], 4, [3, 0, 1, 2]),  # as many as there are
        ([], 2, [0, 1]),
        ([0, 1, 2, 3, 5], 4, [0, 1, 2, 4]),  # more, since others are few
    ],
)
def test_half_of_the_images_shown_are_disagreements_if_there_are_as_many(differing, count, want):
    teacher, student = np.zeros((2, 6), int)
    student[differing] = 2
    models = {"teacher": predicting(teacher), "distilled": predicting(student)}
    assert explaining._shown(models, count).tolist() == want
    assert explaining._shown({"model": predicting(teacher)}, 3).tolist() == [0, 1, 2]


def test_one_kind_of_maps_for_all_models_and_pointing_where_there_are_drawings(tmp_path):
    run = made(tmp_path / "run", {"teacher": ("cnn", 0), "distilled": ("mlp", 1)})
    found = look(run, ExplainConfig(images=2, sample=5))
    assert {own.method for own in found.models.values()} == {"gradients"}
    said = " ".join(found.notes)
    assert "no feature maps were found in: distilled" in said
    assert "Left out: alone" in said
    assert found.more_similar is None
    assert found.numbers["teacher"]["pointing"]["images"] == 5
    np.testing.assert_array_equal(
        found.models["teacher"].maps,
        kd.evaluation.explain.input_gradients(
            keras.models.load_model(run / "teacher.keras", compile=False), found.pixels
        ),
    )


def test_a_run_of_train_has_one_column_and_other_tasks_no_pointing(tmp_path, monkeypatch):
    monkeypatch.setattr(explaining, "DRAWINGS", ())
    run = made(tmp_path / "run", {"model": ("lenet5", 0)}, TrainConfig(limit=20))
    found = look(run, ExplainConfig(images=2, sample=3, explained="label"))
    assert list(found.models) == ["model"]
    np.testing.assert_array_equal(found.models["model"].classes, found.labels)
    assert found.numbers["model"]["pointing"] is None
    assert "not known to hold drawings" in " ".join(found.notes)
    stated = look(run, ExplainConfig(images=2, sample=3, drawings=True))
    assert stated.numbers["model"]["pointing"]["images"] == 3


def test_what_is_no_finished_run_is_told_before_anything_is_loaded(tmp_path, main):
    def told(*words):
        code, out, logged = main("explain", *words)
        assert (code, out) == (2, "")
        assert "Traceback" not in logged
        return " ".join(logged.split())

    assert f"There is no run folder {tmp_path}/gone." in told(tmp_path / "gone")
    assert "is not a run folder: it has no config.json" in told(tmp_path)
    (tmp_path / "config.json").write_text("{}")
    assert "is not finished. Run its command again" in told(tmp_path)
    (tmp_path / "results.json").write_text("{")
    assert "results.json is damaged" in told(tmp_path)
    (tmp_path / "results.json").write_text('{"models": {}}')
    assert "holds no model: none of teacher.keras" in told(tmp_path)
    (tmp_path / "student.keras").write_text("no model")
    assert "`images` must be a positive whole number" in told(tmp_path, "--images", 0)
    assert "Unknown `maps` 'cam'" in told(tmp_path, "--maps", "cam")
    (tmp_path / "explain").mkdir()
    (tmp_path / "explain" / "mine.txt").touch()
    assert "holds something else" in told(tmp_path)


def test_changed_data_and_unknown_taps_are_told(three, tmp_path, main):
    code, _, said = main("explain", three, "--tap", "stage7", "--sample", 2)
    assert (code, "has no tap 'stage7'" in said) == (2, True)
    code, out, _ = main(
        "explain", three, "--tap", "stage1", "--sample", 3, "--json", "--out", tmp_path / "o"
    )
    assert code == 0
    assert {own["tap"] for own in json.loads(out)["models"].values()} == {"stage1"}
    changed = made(tmp_path / "other", {"model": ("lenet5", 0)}, fingerprint="0" * 16)
    code, _, said = main("explain", changed)
    assert code == 2
    assert "The data of 'digits' have changed since the run" in said
