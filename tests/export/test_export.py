"""Exports that are loaded by a new process, and exports that must not come to be."""

import dataclasses
import json
import logging
import os
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

from kd_keras import export
from kd_keras.evaluation.cost import file_bytes
from kd_keras.export import FORMATS, exporting
from kd_keras.export.comparing import Bounds, Comparison

SHAPE = (8, 8, 3)


class Held(layers.Layer):
    """Holds what no Keras weight is: variables of TensorFlow's own, and tables of three kinds."""

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        levels = tf.range(256, dtype=tf.int64)
        turned = tf.lookup.KeyValueTensorInitializer(levels, 255 - levels)
        self.static = tf.lookup.StaticHashTable(turned, -1)
        self.mutable = tf.lookup.experimental.MutableHashTable(tf.int64, tf.int64, -1)
        self.mutable.insert(levels, levels // 2)
        self.look = layers.IntegerLookup(vocabulary=list(range(10, 200)))
        self.scale, self.others = tf.Variable(2.0), [tf.Variable(3.0)]

    def call(self, x):
        levels = self.mutable.lookup(self.static.lookup(tf.cast(x, tf.int64)))
        levels = self.look(tf.ensure_shape(levels, x.shape))
        return tf.cast(levels, tf.float32) * self.scale / self.others[0]

    def build(self, shape):
        self.look.build(shape)

    def compute_output_shape(self, shape):
        return shape


def build(*parts, classes=4, dtype=None, first=()):
    return keras.Sequential(
        [
            keras.Input(SHAPE),
            *first,
            layers.Rescaling(1 / 255.0, dtype=dtype),
            layers.Conv2D(8, 3, dtype=dtype),
            layers.BatchNormalization(dtype=dtype),
            *parts,
            layers.Flatten(dtype=dtype),
            layers.Dense(classes, dtype=dtype),
        ]
    )


@pytest.fixture(scope="module")
def model():
    keras.utils.set_random_seed(0)
    model = build(layers.Dropout(0.5), layers.Dense(200), first=[Held()])
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(True))
    model.fit(pixels(8), np.arange(8) % 4, verbose=0)  # moves the moving averages
    return model


@pytest.fixture(scope="module")
def made(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("exports") / "deep" / "student"
    return export.saved_model(
        model, path, sample=pixels(70).astype(np.uint8), class_names=["a", "b", "ç", "d"]
    )


def pixels(n, seed=0):
    return np.random.default_rng(seed).integers(0, 256, size=(n, *SHAPE)).astype(np.float32)


@pytest.mark.slow
def test_the_record_says_what_was_written_and_compared(made):
    record = dataclasses.asdict(made)
    assert json.loads(json.dumps(record)) == record
    assert made.format == "saved_model"
    assert made.signature == "classify"
    assert (made.examples, made.sample) == (70, "given")
    assert made.same_predictions
    assert made.max_abs_difference <= 1e-4
    assert made.bytes == file_bytes(made.path)
    names = os.path.join(made.path, "assets.extra", "class_names.json")
    with open(names, encoding="utf-8") as file:
        assert json.load(file) == ["a", "b", "ç", "d"]
    beside = os.path.join(os.path.dirname(made.path), "student.json")
    with open(beside, encoding="utf-8") as file:
        assert json.load(file)["export"] == record
    assert sorted(os.listdir(os.path.dirname(made.path))) == ["student", "student.json"]


def test_each_weight_is_stored_once(made, model):
    weights = 4 * model.count_params()
    data = [f for f in os.listdir(os.path.join(made.path, "variables")) if ".data" in f]
    assert weights <= os.path.getsize(os.path.join(made.path, "variables", data[0])) < 1.1 * weights


@pytest.mark.slow
def test_a_stranger_gets_the_answers_of_the_model(made, model, tmp_path):
    """Another folder, an import path without this library, TensorFlow alone."""
    images = pixels(5, seed=1)
    np.save(tmp_path / "images.npy", images)
    script = """
import sys, numpy as np, tensorflow as tf
loaded = tf.saved_model.load(sys.argv[1])
answer = loaded.signatures["classify"](image=tf.constant(np.load("images.npy")))
spec = loaded.signatures["classify"].structured_input_signature[1]["image"]
assert spec.shape.as_list() == [None, 8, 8, 3] and spec.dtype == tf.float32, spec
assert not [name for name in sys.modules if name.startswith("kd_keras")]
np.savez("answers.npz", **answer)
"""
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    command = [sys.executable, "-P", "-c", script, made.path]
    subprocess.run(command, cwd=tmp_path, env=environment, check=True, timeout=120)
    answers = np.load(tmp_path / "answers.npz")
    want = model.predict(images, verbose=0)
    assert set(answers) == {"logits", "probabilities"}
    np.testing.assert_allclose(answers["logits"], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answers["probabilities"], tf.nn.softmax(want), atol=1e-5)


def test_in_a_notebook_tensorflow_does_not_name_the_temporary_folder(tmp_path):
    """There its logger tells of every file that it writes."""
    logger, told = tf.get_logger(), []
    own, before = logging.Handler(), tf.get_logger().level
    own.emit = told.append
    logger.addHandler(own)
    logger.setLevel(logging.INFO)
    try:
        export.saved_model(build(), tmp_path / "student")
        assert logger.level == logging.INFO
    finally:
        logger.removeHandler(own)
        logger.setLevel(before)
    assert [record.getMessage() for record in told] == []


def test_predict_answers_many_images_by_the_default_signature(made, model):
    images = pixels(130, seed=2)
    answers = export.predict(made.path, images.astype(np.uint8))
    want = model.predict(images, verbose=0)
    np.testing.assert_allclose(answers["logits"], want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1.0, rtol=1e-5)


@pytest.mark.slow
def test_an_earlier_export_is_replaced(model, tmp_path):
    path = tmp_path / "student"
    small = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(2)])
    export.saved_model(small, path, class_names=["yes", "no"])
    (path / ".git").mkdir()
    (path / "README.md").write_text("mine")
    made = export.saved_model(small, path, signature="grade")
    assert (made.examples, made.sample) == (16, "drawn")
    assert os.listdir(path / "assets.extra") == ["model.json"]
    assert (path / ".git").is_dir()
    assert (path / "README.md").read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["student", "student.json"]
    assert set(tf.saved_model.load(str(path)).signatures) == {"grade", "serving_default"}


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["mixed_float16", "mixed_bfloat16"])
def test_a_16_bit_model_answers_in_32_bits(dtype, tmp_path):
    made = export.saved_model(build(dtype=dtype), tmp_path / "half")
    answers = export.predict(made.path, pixels(3))
    assert {a.dtype for a in answers.values()} == {np.dtype(np.float32)}
    np.testing.assert_allclose(answers["probabilities"].sum(axis=1), 1.0, rtol=1e-6)


def test_what_may_differ_is_rounding_and_no_more(model):
    assert exporting._tolerance(model) == 1e-4
    assert exporting._tolerance(build(dtype="mixed_bfloat16")) == 2e-2
    for largest, tolerance, allowed in ((0.5, 1e-4, 1e-4), (8.0, 1e-4, 8e-4), (-8.0, 2e-2, 0.16)):
        want, bounds = np.array([[largest, 0.0]]), Bounds(tolerance=tolerance)
        Comparison.of(want, want + 0.9 * allowed).check(bounds)
        with pytest.raises(RuntimeError, match="predictions differ from the model's"):
            Comparison.of(want, want + 1.1 * allowed).check(bounds)
    with pytest.raises(RuntimeError, match="export's logits are not finite on 1 of 1 images"):
        Comparison.of(want, want + np.nan)


def test_a_full_disk_is_one_sentence_that_names_the_export(model, tmp_path, small_files):
    with pytest.raises(OSError, match=f"was being written.*{tmp_path}/student"), small_files():
        export.saved_model(model, tmp_path / "student")
    assert os.listdir(tmp_path) == []


class Noise(layers.Layer):
    """Answers at random, so that no export can answer as the model did."""

    def call(self, x):
        return x + tf.random.normal(tf.shape(x))


@pytest.mark.slow
def test_an_export_that_answers_otherwise_takes_no_name(tmp_path, model):
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "saved_model.pb").write_text("an earlier export")
    with pytest.raises(RuntimeError, match=r"logits differ by .* on 16 images"):
        export.saved_model(build(Noise()), kept)
    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "saved_model.pb").read_text() == "an earlier export"


@pytest.mark.slow
def test_an_export_that_cannot_be_loaded_takes_no_name(tmp_path):
    """The graph calls back into the Python process that wrote it."""

    class Python(layers.Layer):
        def call(self, x):
            return tf.ensure_shape(tf.py_function(lambda x: x, [x], tf.float32), x.shape)

        def compute_output_shape(self, shape):
            return shape

    net = build(Python())
    with pytest.raises(RuntimeError, match="The export failed in a new process"):
        export.saved_model(net, tmp_path / "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("name", sorted(FORMATS))
def test_the_process_that_loads_an_export_has_the_runtime_alone(name, tmp_path):
    """TensorFlow would import Keras, and an export that needs Keras would seem to need nothing."""
    form = FORMATS[name]
    if form.missing:
        pytest.skip(form.needs)
    code = (
        "import runpy, sys\n"
        f"sys.modules.update(dict.fromkeys({form.hidden!r}))\n"
        f"runpy.run_path({str(form.load)!r})\n"
        f"assert not any(sys.modules[name] for name in {form.hidden!r})\n"
        "assert not any(name.startswith(('keras.', 'kd_keras.')) for name in sys.modules)\n"
    )
    done = subprocess.run(
        [sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert {"kd_keras", "keras"} <= set(form.hidden)


def test_a_table_that_no_layer_holds_is_said_to_be_so(tmp_path):
    numbers = tf.range(256, dtype=tf.int64)
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(numbers, numbers), -1)

    class Elsewhere(layers.Layer):
        def call(self, x):
            return tf.cast(table.lookup(tf.cast(x, tf.int64)), tf.float32)

        def compute_output_shape(self, shape):
            return shape

    with pytest.raises(RuntimeError, match="that none of its layers holds"):
        export.saved_model(build(first=[Elsewhere()]), tmp_path / "new")
    assert os.listdir(tmp_path) == []


@pytest.mark.slow
def test_logits_that_are_not_numbers_are_refused(tmp_path):
    net = build()
    net.layers[-1].bias.assign([np.nan, 0.0, 0.0, 0.0])
    with pytest.raises(RuntimeError, match="model's logits are not finite on 16 of 16 images"):
        export.saved_model(net, tmp_path / "new")
    assert os.listdir(tmp_path) == []


def test_wrong_arguments_are_refused_before_anything_is_written(model, tmp_path):
    path = tmp_path / "new"
    several = keras.Model(model.inputs, [model.outputs[0], model.outputs[0]])
    for arguments, error, message in [
        ({"model": "student.keras"}, TypeError, "`model` must be a Keras model. Received: str"),
        ({"model": several}, ValueError, "`model` must return logits"),
        ({"model": build().layers[1]}, TypeError, "Received: Conv2D"),
        ({"sample": pixels(3)[0]}, ValueError, "`sample` must have shape (n, 8, 8, 3)"),
        ({"sample": np.zeros((2, 9, 8, 3))}, ValueError, "Received: shape (2, 9, 8, 3)"),
        ({"sample": np.zeros((0, 8, 8, 3))}, ValueError, "n at least 1"),
        ({"class_names": ["a"]}, ValueError, "`class_names` must name the 4 classes"),
    ]:
        with pytest.raises(error) as caught:
            export.saved_model(**{"model": model, "path": path, **arguments})
        assert message in str(caught.value)
    free = keras.Sequential([keras.Input((None, None, 3)), layers.GlobalAveragePooling2D()])
    with pytest.raises(ValueError, match="`model` must take one image of known size"):
        export.saved_model(free, path)
    probable = keras.Sequential([keras.Input((5,)), layers.Dense(2, activation="softmax")])
    with pytest.raises(ValueError, match="`model` must return logits, but its last layer"):
        export.saved_model(probable, path)
    assert os.listdir(tmp_path) == []


def test_wrong_paths_are_refused_and_left_as_they_were(model, tmp_path):
    (tmp_path / "file").write_text("kept")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "thesis.txt").write_text("kept")
    (tmp_path / "seen as empty").mkdir()
    (tmp_path / "seen as empty" / ".DS_Store").touch()
    export.check_target(tmp_path / "seen as empty")
    with pytest.raises(FileExistsError, match="is a file"):
        export.saved_model(model, tmp_path / "file")
    with pytest.raises(FileExistsError, match="holds something else"):
        export.saved_model(model, tmp_path / "folder")
    with pytest.raises(NotADirectoryError, match="under a file"):
        export.saved_model(model, tmp_path / "file" / "student")
    assert (tmp_path / "folder" / "thesis.txt").read_text() == "kept"
    assert sorted(os.listdir(tmp_path)) == ["file", "folder", "seen as empty"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_to_is_named(model, tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=tmp_path.name):
        export.saved_model(model, tmp_path / "student")


def test_a_format_is_one_entry_of_the_registry(model, tmp_path, monkeypatch):
    """It is written, loaded by its own script alone, compared and renamed as any other."""
    script = tmp_path / "loader.py"
    script.write_text(
        "import sys, numpy as np\n"
        "def load(path, signature, threads):\n"
        "    held = np.load(path + '/table.npz')\n"
        "    assert not any(sys.modules.get(n) for n in ('kd_keras', 'keras', 'tensorflow'))\n"
        "    def run(images):\n"
        "        rows = images.reshape(len(images), -1)\n"
        "        return rows @ held['kernel'] + held['bias'] + float(held['off'])\n"
        "    return run\n"
    )
    off = [0.0]

    def write(content, folder):
        kernel, bias = content.model.layers[-1].get_weights()
        np.savez(folder / "table.npz", kernel=kernel, bias=bias, off=off[0])

    def check(target):
        if (target / "other").exists():
            raise FileExistsError(f"{target} holds another's file")

    place = export.Folder(("table.npz",), check)
    table = export.ExportFormat("table", {"none": write}, script, place)
    monkeypatch.setitem(export.FORMATS, "table", table)
    linear = keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(4)])
    made = export.export(linear, tmp_path / "out", "table")
    assert (made.format, made.same_predictions, made.sample) == ("table", True, "drawn")
    assert os.listdir(tmp_path / "out") == ["table.npz"]
    off[0] = 3.0
    with pytest.raises(RuntimeError, match="predictions differ from the model's"):
        export.export(linear, tmp_path / "second", "table")
    assert not (tmp_path / "second").exists()
    assert not (tmp_path / "second.json").exists()
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "other").touch()
    with pytest.raises(FileExistsError, match="another's file"):
        export.export(linear, tmp_path / "taken", "table")
    with pytest.raises(ValueError, match=r"Unknown format 'tabel'. Did you mean 'table'"):
        export.export(linear, tmp_path / "third", "tabel")
    with pytest.raises(ValueError, match=r"'table' has no quantization 'int8', only: none"):
        export.export(linear, tmp_path / "third", "table", quantize="int8")
