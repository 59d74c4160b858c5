"""Formats and quantizations: what each file holds, what is refused, and what is caught."""

import dataclasses
import json
import os
import re
import sys
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from keras import layers

from kd_keras import data, export, teachers
from kd_keras.cli import names
from kd_keras.export import FORMATS, QUANTIZATIONS, Judge, Stopwatch
from kd_keras.export.comparing import Bounds, Comparison
from kd_keras.export.content import Content, describe, types_of
from kd_keras.export.loaded import Loaded
from kd_keras.utils.quiet import unlogged, without_chatter

SHAPE = (8, 8, 1)
SINGLE = [(form, q) for form in ("litert", "onnx") for q in FORMATS[form].writers]


@pytest.fixture(scope="module")
def task():
    return data.load("digits")


def trained(task, *parts):
    keras.utils.set_random_seed(0)
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Rescaling(1 / 255), *parts, layers.Dense(10)]
    )
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(task.train.images.astype("float32"), task.train.labels, epochs=15, verbose=0)
    return model


@pytest.fixture(scope="module")
def models(task):
    convolutional = (
        layers.Conv2D(16, 3, padding="same", use_bias=False),
        layers.BatchNormalization(),
        layers.ReLU(),
        layers.DepthwiseConv2D(3, strides=2, padding="same"),
        layers.Flatten(),
    )
    dense = (layers.Flatten(), layers.Dense(64, "relu"))
    return {"conv": trained(task, *convolutional), "dense": trained(task, *dense)}


def small():
    return keras.Sequential([keras.Input(SHAPE), layers.Flatten(), layers.Dense(10)])


def needs(name):
    if FORMATS[name].missing:
        pytest.skip(FORMATS[name].needs)


# --- every format and quantization ---


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["conv", "dense"])
@pytest.mark.parametrize(("form", "quantize"), SINGLE)
def test_an_export_of_one_file_answers_as_its_model(form, quantize, kind, models, task, tmp_path):
    needs(form)
    path = FORMATS[form].place.named(tmp_path / "student")
    images = task.test.images[:150]
    made = export.export(
        models[kind],
        path,
        form,
        quantize=quantize,
        sample=images,  # in batches of 64 and 22: the batch is free
        class_names=[f"ç{k}" for k in range(10)],
        representative=task.train.images[:100],
        about={"threshold": 0.25},
        # below the bounds: the training is not the same on every machine
        min_agreement=0.95,
        judge=Judge("accuracy", task.test.labels[:150], "test"),
    )
    assert made.agreement >= 0.95
    assert made.mean_abs_difference <= made.max_abs_difference
    assert made.metric["export"] >= 0.8
    assert made.metric["interval"][0] <= made.metric["difference"] <= made.metric["interval"][1]
    assert sorted(os.listdir(tmp_path)) == [path.name, f"{path.name}.json"]
    assert made.bytes == os.path.getsize(path)
    inside = INSIDE[form](path)
    assert inside["class_names"][1] == "ç1"
    assert inside["threshold"] == 0.25
    assert inside["input"]["type"] == ("uint8" if quantize == "int8" else "float32")
    assert inside["input"]["resizing"]["method"] == "bilinear"
    beside = json.loads((tmp_path / f"{path.name}.json").read_text())
    assert beside.pop("export") == dataclasses.asdict(made)
    assert beside == inside


def inside_litert(path):
    with zipfile.ZipFile(path) as archive:
        assert archive.read("labels.txt").decode().split()[1] == "ç1"
        return json.loads(archive.read("model.json"))


def inside_onnx(path):
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    assert session.get_inputs()[0].shape == ["batch", *SHAPE]
    return json.loads(session.get_modelmeta().custom_metadata_map["kd_keras"])


INSIDE = {"litert": inside_litert, "onnx": inside_onnx}


@pytest.mark.slow
def test_fewer_bits_make_smaller_files(models, task, tmp_path):
    for form in ("litert", "onnx"):
        if FORMATS[form].missing:
            continue
        sizes = []
        for quantize in ("none", "float16", "dynamic"):
            path = FORMATS[form].place.named(tmp_path / quantize)
            sample = task.test.images[:100]
            made = export.export(models["dense"], path, form, quantize=quantize, sample=sample)
            sizes.append(made.bytes)
        assert sizes == sorted(sizes, reverse=True)


@pytest.mark.slow
def test_a_file_of_a_convolution_in_integers_takes_pixels_as_they_are(models, task, tmp_path):
    needs("litert")
    from ai_edge_litert.interpreter import Interpreter

    path = tmp_path / "student.tflite"
    images = task.train.images[:50] // 2  # the largest pixel of all is not among them
    sample = task.test.images
    export.export(
        *(models["conv"], path, "litert"),
        quantize="int8",
        sample=sample,
        representative=images,
        min_agreement=0.9,
    )
    interpreter = Interpreter(str(path))
    (given,) = interpreter.get_input_details()
    assert (given["dtype"], given["quantization"]) == (np.uint8, (1.0, 0))
    assert list(given["shape_signature"]) == [-1, *SHAPE]


@pytest.mark.slow
@pytest.mark.parametrize("form", ["litert", "onnx"])
def test_the_lines_of_the_page_load_a_file(form, models, task, tmp_path, monkeypatch):
    needs(form)
    monkeypatch.chdir(tmp_path)
    path = FORMATS[form].place.named(Path("student"))
    sample = task.test.images[:100]
    quantised = {"quantize": "int8", "representative": task.train.images[:100]}
    export.export(models["conv"], path, form, sample=sample, min_agreement=0.9, **quantised)
    page = (Path(__file__).parents[2] / "docs/export.md").read_text()
    (code,) = [code for code in re.findall(r"```py\n(.+?)```", page, re.S) if path.name in code]
    taught = teachers.load(str(path), task)
    known = {"images": sample}
    exec(code, known)
    want = models["conv"].predict(sample.astype("float32"), verbose=0)
    assert (known["logits"].argmax(axis=1) == want.argmax(axis=1)).mean() >= 0.9
    np.testing.assert_allclose(taught(sample), known["logits"], atol=1e-3)
    assert known["facts"]["quantize"] == "int8"


@pytest.mark.slow
def test_the_latency_is_measured_beside_the_model(tmp_path):
    needs("litert")
    model = small()
    with Stopwatch(model) as stopwatch:
        made = export.export(model, tmp_path / "a.tflite", "litert", stopwatch=stopwatch)
    counts = [entry["threads"] for entry in made.latency["threads"]]
    assert counts[0] == 1
    assert counts == sorted(set(counts))
    for entry in made.latency["threads"]:
        assert 0 < entry["median_ms"] <= entry["p95_ms"]
        assert 0 < entry["keras_median_ms"] <= entry["keras_p95_ms"]
    written = json.loads((tmp_path / "a.tflite.json").read_text())["export"]
    assert written == dataclasses.asdict(made)


# --- what is caught ---


def damaged(model, damage):
    """A writer that converts a damaged copy of a model."""
    copy = keras.models.clone_model(model)
    copy.set_weights([damage(weight) for weight in model.get_weights()])

    def write(content, path):
        whole = FORMATS["litert"].writers[content.quantization.name]
        whole(dataclasses.replace(content, model=copy), path)

    return write


def broken(path):
    path.write_bytes(b"nothing but a name" * 1000)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "quantize", "message"),
    [
        (lambda m: damaged(m, np.zeros_like), "none", r"logits differ by up to [\d.]+ on 100"),
        (lambda m: damaged(m, np.zeros_like), "int8", r"class for only [\d.]+% of 100 images"),
        (lambda m: damaged(m, lambda w: w * np.nan), "float16", "not finite on 100 of 100"),
        (lambda m: lambda c, path: path.write_bytes(b"x"), "dynamic", r"has 1 bytes, .* at least"),
        (lambda m: lambda c, path: broken(path), "none", "failed in a new process"),
    ],
)
def test_a_damaged_export_is_caught_and_leaves_nothing(
    write, quantize, message, models, task, tmp_path, monkeypatch
):
    needs("litert")
    model = models["dense"]
    odd = dataclasses.replace(FORMATS["litert"], writers={quantize: write(model)})
    monkeypatch.setitem(FORMATS, "odd", odd)
    with pytest.raises(RuntimeError, match=message):
        export.export(
            *(model, tmp_path / "student.tflite", "odd"),
            quantize=quantize,
            sample=task.test.images[:100],
            representative=task.train.images[:20],
        )
    assert os.listdir(tmp_path) == []


def test_a_process_that_has_ended_says_why_however_late_it_is_asked(tmp_path):
    loader = tmp_path / "loader.py"
    loader.write_text("def load(path, signature, threads):\n    raise ValueError('no such file')\n")
    form = dataclasses.replace(FORMATS["litert"], load=loader)
    with Loaded(form, tmp_path / "a.tflite", "classify") as loaded:
        loaded._process.wait()
        for _ in range(2):
            with pytest.raises(RuntimeError, match="in a new process: ValueError: no such file"):
                loaded.logits(np.zeros((1, *SHAPE)))


def test_the_bounds_are_those_of_the_quantization_unless_given():
    want = np.eye(2)[np.zeros(100, int)]
    got = want.copy()
    got[:3] = got[:3, ::-1]
    compared = Comparison.of(want, got)
    assert (compared.agreement, compared.max_abs_difference) == (0.97, 1.0)
    assert compared.mean_abs_difference == pytest.approx(0.03)
    with pytest.raises(RuntimeError, match=r"for only 97.00% of 100 images, but 98.00% is wanted"):
        compared.check(Bounds.of(QUANTIZATIONS["int8"], None, 1e-4))
    compared.check(Bounds.of(QUANTIZATIONS["int8"], 0.97, 1e-4))
    with pytest.raises(RuntimeError, match="logits differ by up to 1 on 100 images"):
        compared.check(Bounds.of(QUANTIZATIONS["none"], None, 1e-4))
    with pytest.raises(RuntimeError, match=r"shape \(2, 2\), but the model's have \(100, 2\)"):
        Comparison.of(want, got[:2])


def test_the_least_bytes_are_those_of_the_kernels():
    model = keras.Sequential(
        [keras.Input(SHAPE), layers.Conv2D(4, 3), layers.BatchNormalization(), layers.Flatten()]
    )
    for name, each in (("none", 4), ("float16", 2), ("int8", 1)):
        quantization = QUANTIZATIONS[name]
        content = Content(model, "classify", quantization, describe(model, "onnx", quantization))
        assert content.least_bytes == int(0.9 * 36 * each)


def test_a_judge_of_one_class_leaves_an_area_undefined():
    logits = np.array([[1.0, 0.0], [0.0, 1.0]])
    found = Judge("auc", np.array([1, 1]), "test")(logits, logits)
    assert (found["model"], found["difference"], found["interval"]) == (None, None, None)


# --- what is refused before anything is written ---


def test_the_command_line_knows_the_formats_and_their_quantizations():
    assert {name: tuple(form.writers) for name, form in FORMATS.items()} == names.FORMATS
    assert set(QUANTIZATIONS) == {q for form in FORMATS.values() for q in form.writers}


def test_what_a_format_does_not_have_is_refused_in_a_sentence(tmp_path):
    model = small()
    for name, quantize, message in [
        ("saved_model", "int8", "'saved_model' has no quantization 'int8', only: none. Formats"),
        ("onnx", "int4", "Unknown quantization 'int4'. Did you mean 'int8'?"),
        ("lite", "none", "Unknown format 'lite'. Did you mean 'litert'?"),
    ]:
        with pytest.raises(ValueError, match=message.replace("?", r"\?")):
            export.export(model, tmp_path / "a", name, quantize=quantize)
    assert os.listdir(tmp_path) == []


def test_a_missing_package_is_named_with_its_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tf2onnx", None)
    with pytest.raises(ValueError, match=r'needs .*tf2onnx.*: pip install "kd_keras\[onnx\]"'):
        export.export(small(), tmp_path / "a.onnx", "onnx")


def test_wrong_images_and_paths_are_refused(tmp_path):
    needs("litert")
    model, images = small(), np.zeros((2, *SHAPE), np.uint8)
    (tmp_path / "folder.tflite").mkdir()
    (tmp_path / "taken.tflite.json").write_text('{"mine": true}')
    before = sorted(os.listdir(tmp_path))
    path, int8 = tmp_path / "a.tflite", {"quantize": "int8"}
    for arguments, error, message in [
        (int8, ValueError, "quantize='int8' needs `representative`"),
        (
            {**int8, "representative": images / 2 + 0.5},
            ValueError,
            "`representative` must hold raw",
        ),
        ({**int8, "representative": images[:, :4]}, ValueError, "`representative` must have shape"),
        ({**int8, "sample": images - 1.0}, ValueError, "`sample` must hold raw pixels"),
        ({"about": {"format": "mine"}}, ValueError, "`about` cannot give 'format'"),
        ({"about": {"threshold": np.nan}}, ValueError, "`about` must hold values that JSON knows"),
        ({"min_agreement": 1.5}, ValueError, "`min_agreement` must lie in"),
        ({"path": tmp_path / "a.onnx"}, ValueError, "`path` must end in .tflite"),
        ({"path": tmp_path / "folder.tflite"}, FileExistsError, "must be a file to write"),
        ({"path": tmp_path / "taken.tflite"}, FileExistsError, "holds something else"),
    ]:
        with pytest.raises(error) as caught:
            export.export(**{"model": model, "path": path, "format": "litert", **arguments})
        assert message in str(caught.value)
    assert sorted(os.listdir(tmp_path)) == before


def test_a_model_of_16_bits_is_refused_where_no_kernel_is(tmp_path):
    needs("litert")
    half = keras.Sequential(
        [keras.Input(SHAPE), layers.Flatten(), layers.Dense(2, dtype="bfloat16")]
    )
    assert types_of(half) == {"float32", "bfloat16"}
    with pytest.raises(
        ValueError, match=r"no layers that compute in bfloat16.*--precision float32"
    ):
        export.export(half, tmp_path / "a.tflite", "litert")


def test_what_libraries_print_and_log_is_kept_away(capfd):
    import logging

    with without_chatter():
        os.write(2, b"INFO: a greeting\n")
    with unlogged("a.library", logging.ERROR) as said:
        logging.getLogger("a.library.part").warning("unasked")
        logging.getLogger("a.library.part").error("broken")
    assert said == ["broken"]
    assert capfd.readouterr().err == ""
