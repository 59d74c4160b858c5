"""Teachers of any kind: files of other frameworks, functions, stored predictions."""

import dataclasses
import json
import textwrap

import keras
import numpy as np
import pandas as pd
import pytest

import kd_keras as kd
from kd_keras import data, export, teachers
from kd_keras.data import arrays
from kd_keras.recipes import saving

SHAPE = (8, 8, 1)


@pytest.fixture(scope="module")
def task():
    return data.load("digits")


@pytest.fixture(scope="module")
def model(task):
    """A teacher that is right more often than not, of dense layers."""
    keras.utils.set_random_seed(0)
    model = kd.models.build("mlp", input_shape=SHAPE, classes=10, hidden=(32,))
    model.compile("adam", keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(task.train.images, task.train.labels, epochs=3, verbose=0)
    return model


@pytest.fixture(scope="module")
def folder(model, task, tmp_path_factory):
    """The teacher in every form that needs no further package."""
    folder = tmp_path_factory.mktemp("teachers")
    saving.save(model, folder / "big.keras")
    export.export(model, folder / "big")
    splits = (task.train, task.validation, task.test)
    rows = np.concatenate([model.predict(split.images, verbose=0) for split in splits])
    np.save(folder / "all.npy", rows)
    np.save(folder / "train.npy", rows[: len(task.train)])
    kernels = {f"w{k}": value for k, value in enumerate(model.get_weights())}
    np.savez(folder / "weights.npz", **kernels)
    (folder / "mine.py").write_text(
        textwrap.dedent(f"""
        import numpy as np

        weights = np.load({str(folder / "weights.npz")!r})

        def logits(images):
            assert images.dtype == np.uint8
            x = images.reshape(len(images), -1) / np.float32(255)
            hidden = np.maximum(x @ weights["w0"] + weights["w1"], 0)
            return hidden @ weights["w2"] + weights["w3"]

        def both(images):
            x = images.reshape(len(images), -1) / np.float32(255)
            hidden = np.maximum(x @ weights["w0"] + weights["w1"], 0)
            return {{"logits": hidden @ weights["w2"] + weights["w3"], "embedding": hidden}}

        def features(images):
            return {{"embedding": both(images)["embedding"]}}

        def student(input_shape, classes, units=16):
            import keras
            inputs = keras.Input(input_shape)
            x = keras.layers.Rescaling(1 / 255)(inputs)
            x = keras.layers.Dense(units, activation="relu")(keras.layers.Flatten()(x))
            return keras.Model(inputs, keras.layers.Dense(classes)(x), name="mine")

        def wrong(images):
            return np.zeros((len(images) + 1, 10))

        def softmax(images):
            z = np.exp(logits(images))
            return z / z.sum(axis=1, keepdims=True)
        """)
    )
    return folder


@pytest.mark.parametrize(
    "name", ["big.keras", "big", "all.npy", "train.npy", "mine.py:logits", "mine.py:both"]
)
def test_every_form_gives_the_same_logits_on_train(folder, model, task, name):
    loaded = teachers.load(str(folder / name), task)
    images = task.train.images[5:25]
    np.testing.assert_allclose(loaded(images), model(images), rtol=1e-4, atol=1e-4)
    assert teachers.is_judged(loaded) == (name != "train.npy")
    source = teachers.LiveTeacher(loaded)
    assert source.durable
    assert (
        source.fingerprint()
        == teachers.LiveTeacher(teachers.load(str(folder / name), task)).fingerprint()
    )


def test_features_of_a_function_are_taps(folder, model, task):
    loaded = teachers.load(str(folder / "mine.py:both"), task)
    source = teachers.LiveTeacher(loaded, ("embedding", "logits"))
    assert source.shapes == {"embedding": (None, 32), "logits": (None, 10)}
    found = source({"image": task.train.images[:4]})
    want = model.get_layer("embedding")
    between = keras.Model(model.input, want.output)(task.train.images[:4])
    np.testing.assert_allclose(found["embedding"], between, rtol=1e-4, atol=1e-4)
    headless = teachers.load(str(folder / "mine.py:features"), task)
    assert not teachers.is_judged(headless)


def test_functions_without_a_file_are_told_apart(task):
    one, other = (
        teachers.LiveTeacher(teachers.load(lambda x, k=k: np.full((len(x), 10), k, "f4"), task))
        for k in (1.0, 2.0)
    )
    assert not one.durable
    assert one.fingerprint() != other.fingerprint()
    assert one.fingerprint() == one.fingerprint()
    x = task.train.images[:16]
    caches = [kd.cache.rows(each, x)["logits"] for each in (one, other)]
    assert [rows.mean() for rows in caches] == [1.0, 2.0]


def test_a_function_whose_files_or_code_change_is_another_teacher(task, tmp_path):
    """Its stored predictions would be those of the old one."""
    code = "import numpy as np\n\ndef run(images):\n    return {1} * np.load({0!r})[:len(images)]\n"
    weights, path = tmp_path / "w.npy", tmp_path / "own.py"

    def key(factor, seed):
        np.save(weights, np.random.default_rng(seed).normal(size=(500, 10)))
        path.write_text(code.format(str(weights), factor))
        return teachers.LiveTeacher(teachers.load(f"{path}:run", task)).fingerprint()

    first = key(1, 0)
    assert key(1, 0) == first
    assert len({first, key(1, 1), key(2, 0)}) == 3


def test_stored_predictions_by_file_name(model, tmp_path):
    from PIL import Image

    rng = np.random.default_rng(0)
    names = []
    for number in range(60):
        name = f"{'ab'[number % 2]}/{number}.png"
        (tmp_path / "data" / name).parent.mkdir(parents=True, exist_ok=True)
        pixels = rng.integers(0, 256, (8, 8), "uint8")
        Image.fromarray(pixels).save(tmp_path / "data" / name)
        names.append(name)
    own = data.load(data=tmp_path / "data", channels=1, validation_share=0.2)
    rows = rng.normal(size=(60, 2)).astype("float32")
    by_name = dict(zip(names, rows, strict=True))
    frame = pd.DataFrame({"file": names, "b": rows[:, 1], "a": rows[:, 0]})
    frame.to_csv(tmp_path / "p.csv", index=False)
    frame.assign(file=[name.rpartition("/")[2] for name in names]).to_parquet(
        tmp_path / "p.parquet"
    )
    np.savez(tmp_path / "p.npz", logits=rows, image=np.array(names))
    pixels = {split: np.asarray(own_split(own, split)) for split in ("train", "test")}
    for ending in ("csv", "parquet", "npz"):
        loaded = teachers.load(str(tmp_path / f"p.{ending}"), own)
        for split, images in pixels.items():
            want = [by_name[name] for name in getattr(own, split).names]
            np.testing.assert_allclose(loaded(images), want, rtol=1e-5)
    frame.iloc[3:].to_csv(tmp_path / "few.csv", index=False)
    with pytest.raises(ValueError, match=r"holds no predictions of \d of \d+ training images"):
        teachers.load(str(tmp_path / "few.csv"), own)


def own_split(task, name):
    from kd_keras.data import images

    return images.pixels_of(getattr(task, name))


def test_size_range_and_classes_are_adapted(folder, model, task):
    large = arrays.from_arrays(
        np.repeat(np.repeat(task.train.images, 2, 1), 2, 2),
        task.train.labels,
        class_names=tuple("9876543210"),
    )
    plain = teachers.load(str(folder / "big.keras"), large)
    assert plain.input_shape == (None, 16, 16, 1)
    turned = teachers.load(str(folder / "big.keras"), large, classes=list("0123456789"))
    x = large.train.images[:5]
    np.testing.assert_allclose(turned(x), plain(x).numpy()[:, ::-1], rtol=1e-6)
    seen = []

    def look(images):
        seen.append(images)
        return np.zeros((len(images), 10))

    teachers.load(look, task, size=4, scale="signed")
    assert seen[-1].shape[1:] == (4, 4, 1)
    assert seen[-1].dtype == np.float32
    assert -1 <= seen[-1].min() < 0 < seen[-1].max() <= 1


def test_onnx(folder, model, task, tmp_path):
    onnx, _ = pytest.importorskip("onnx"), pytest.importorskip("onnxruntime")
    w0, b0, w1, b1 = model.get_weights()
    kinds, make = onnx.TensorProto, onnx.helper
    for transposed in (False, True):
        given = ["n", 1, 8, 8] if transposed else ["n", 8, 8, 1]
        nodes = [
            make.make_node("Flatten", ["image"], ["flat"]),
            make.make_node("Mul", ["flat", "scale"], ["x"]),
            make.make_node("Gemm", ["x", "w0", "b0"], ["h"]),
            make.make_node("Relu", ["h"], ["r"]),
            make.make_node("Gemm", ["r", "w1", "b1"], ["logits"]),
        ]
        held = {"w0": w0, "b0": b0, "w1": w1, "b1": b1, "scale": np.float32([1 / 255])}
        graph = make.make_graph(
            nodes, "mlp",
            [make.make_tensor_value_info("image", kinds.FLOAT, given)],
            [make.make_tensor_value_info("logits", kinds.FLOAT, ["n", 10])],
            [onnx.numpy_helper.from_array(value, name) for name, value in held.items()],
        )  # fmt: skip
        path = tmp_path / f"{transposed}.onnx"
        made = make.make_model(graph, opset_imports=[make.make_opsetid("", 17)], ir_version=9)
        onnx.save(made, path)
        loaded = teachers.load(str(path), task)
        x = task.test.images[:9]
        np.testing.assert_allclose(loaded(x), model(x), rtol=1e-4, atol=1e-4)


def test_presets_of_kerashub(task, tmp_path):
    hub = pytest.importorskip("keras_hub")
    keras.utils.set_random_seed(0)
    backbone = hub.models.ResNetBackbone(
        input_conv_filters=[64],
        input_conv_kernel_sizes=[3],
        stackwise_num_filters=[64],
        stackwise_num_blocks=[1],
        stackwise_num_strides=[1],
        block_type="basic_block",
        image_shape=(None, None, 3),
    )
    converter = hub.layers.ResNetImageConverter(image_size=(16, 16), scale=1 / 16)
    classifier = hub.models.ResNetImageClassifier(
        backbone=backbone,
        num_classes=10,
        preprocessor=hub.models.ResNetImageClassifierPreprocessor(image_converter=converter),
    )
    classifier.save_to_preset(str(tmp_path / "classifier"))
    backbone.save_to_preset(str(tmp_path / "backbone"))

    def image(x):
        return np.repeat(x, 3, axis=-1)

    images = task.test.images[:3]
    coloured = data.from_arrays(image(task.train.images[:300]), task.train.labels[:300])
    teacher = kd.teachers.load(f"hub:{tmp_path}/classifier", coloured)
    want = classifier(converter(image(images).astype("float32")), training=False)
    np.testing.assert_allclose(teacher(image(images)), want, rtol=1e-4, atol=1e-4)
    # a scale of the user's own takes the place of the preset's converter
    teacher = kd.teachers.load(f"hub:{tmp_path}/classifier", coloured, scale="unit")
    want = classifier(image(images).astype("float32") / 255, training=False)
    np.testing.assert_allclose(teacher(image(images)), want, rtol=1e-4, atol=1e-4)
    features = kd.teachers.load(f"hub:{tmp_path}/backbone", coloured)
    want = np.mean(backbone(image(images).astype("float32"), training=False), axis=(1, 2))
    np.testing.assert_allclose(features(image(images)), want, rtol=1e-4, atol=1e-4)
    with pytest.raises(ValueError, match="KerasHub cannot load the preset"):
        kd.teachers.load("hub:no_such_preset_of_ours", coloured)


@pytest.mark.filterwarnings("ignore")  # TensorFlow's own interpreter names its successor
def test_litert(model, task, tmp_path):
    import tensorflow as tf

    model.export(tmp_path / "saved", verbose=False)
    converted = tf.lite.TFLiteConverter.from_saved_model(str(tmp_path / "saved")).convert()
    (tmp_path / "big.tflite").write_bytes(converted)
    loaded = teachers.load(str(tmp_path / "big.tflite"), task)
    x = task.test.images[:9]
    np.testing.assert_allclose(loaded(x), model(x), rtol=1e-4, atol=1e-4)
    (tmp_path / "torn.tflite").write_bytes(b"not a model")
    with pytest.raises(ValueError, match="cannot be loaded as a LiteRT file"):
        teachers.load(str(tmp_path / "torn.tflite"), task)


def test_without_onnxruntime_it_is_named(task, tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    (tmp_path / "big.onnx").write_bytes(b"x")
    with pytest.raises(ValueError, match=r'pip install "kd_keras\[onnx\]"'):
        teachers.load(str(tmp_path / "big.onnx"), task)


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("mine.py:absent", r"has no function 'absent'. It has: .*logits"),
        ("absent.py:logits", "There is no file"),
        ("mine.py:wrong", r"one row per image. Received: 'logits' of shape \(9, 10\)"),
        ("mine.py:softmax", "is a distribution: leave out its softmax"),
        ("absent.onnx", "There is no teacher"),
        ("all.npy+augmented", "predictions of the images as they are"),
        ("weights.npz", "must have one row per image|must hold one row"),
    ],
)
def test_what_is_no_teacher_is_told(folder, task, name, match):
    name, _, augmented = name.partition("+")
    with pytest.raises((ValueError, FileNotFoundError), match=match):
        teachers.load(str(folder / name), task, augmented=bool(augmented))


def test_classes_that_do_not_fit_are_told(folder, task):
    halves = data.load("digits_halves")
    with pytest.raises(ValueError, match=r"The teacher .* has 10 classes, and the task .* has 2"):
        teachers.load(str(folder / "mine.py:logits"), halves)
    with pytest.raises(ValueError, match="must name each of the teacher's 10 classes once"):
        teachers.load(str(folder / "mine.py:logits"), task, classes=["0"])
    with pytest.raises(ValueError, match="class of the task among the teacher's: '9'"):
        teachers.load(str(folder / "mine.py:logits"), task, classes=[*"012345678", "x"])
    with pytest.raises(ValueError, match=r"Unknown scale 'sined'. Did you mean 'signed'"):
        teachers.load(str(folder / "mine.py:logits"), task, scale="sined")


# --- whole runs ---


@pytest.mark.slow
def test_the_same_student_from_every_form_of_the_teacher(folder, task, tmp_path):
    found = {}
    for number, name in enumerate(["big.keras", "mine.py:logits", "train.npy"]):
        out = tmp_path / str(number)
        results = kd.distill(
            "digits", teacher=folder / name, student=f"{folder / 'mine.py'}:student",
            epochs=2, seeds=(0,), out=out, export=tmp_path / f"student{number}",
            augmentation="none", learning_rate=0.01, report=False,
        )  # fmt: skip
        student = keras.models.load_model(out / "student.keras", compile=False)
        found[name] = results, student.predict(task.test.images, verbose=0)
        assert ("teacher" in results["models"]) == (name != "train.npy")
        assert (out / "teacher.keras").exists() == (name == "big.keras")
        assert json.loads((out / "config.json").read_text())["student"].endswith("mine.py:student")
    results, logits = found.pop("big.keras")
    for other, theirs in found.values():
        np.testing.assert_allclose(theirs, logits, rtol=1e-2, atol=1e-2)
        ours = results["models"]["distilled"]["summary"]["accuracy"]["mean"]
        assert other["models"]["distilled"]["summary"]["accuracy"]["mean"] == pytest.approx(
            ours, abs=0.003
        )


@pytest.mark.slow
def test_models_of_a_script_are_taken_as_they_are(folder, model, task, tmp_path):
    small = kd.models.build("mlp", input_shape=SHAPE, classes=10, hidden=(4,))
    own = dataclasses.replace(task, name="mine")  # no task of the registry
    results = kd.distill(
        own, teacher=model, student=small, epochs=1, seeds=(0,), out=tmp_path / "run",
        export=tmp_path / "student", report=False,
    )  # fmt: skip
    assert results["models"]["distilled"]["cost"]["parameters"] == small.count_params()
    with pytest.raises(ValueError, match="must be a function at the top of a file"):
        kd.distill(task, teacher=lambda x: x, out=tmp_path / "other")
    with pytest.raises(ValueError, match=r"Unknown option of distill: 'epoch'. Did you mean"):
        kd.distill(task, epoch=3)


@pytest.mark.slow
def test_a_teacher_of_features_alone(folder, task, tmp_path):
    results = kd.distill(
        task, teacher=f"{folder / 'mine.py'}:features", student="mlp",
        student_knobs=("hidden=16,",), method="rkd", epochs=2, seeds=(0,), out=tmp_path / "run",
        export=tmp_path / "student",
    )  # fmt: skip
    assert sorted(results["models"]) == ["alone", "distilled"]
    assert results["verdict"]["interval"]


@pytest.mark.slow
def test_pretraining_on_images_without_labels(folder, task, tmp_path):
    from PIL import Image

    for number, image in enumerate(task.train.images[:40]):
        path = tmp_path / f"unlabelled/{number}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(image[..., 0]).save(path)
    from kd_keras.config import PretrainConfig
    from kd_keras.recipes import distill

    config = PretrainConfig(
        teacher=f"{folder / 'mine.py'}:features", student="mlp", student_knobs=("hidden=16,",),
        transfer_dir=tmp_path / "unlabelled", epochs=3, pretrain_epochs=2, seeds=(0,),
        batch_size=32, learning_rate=0.01, out=tmp_path / "run", export=tmp_path / "student",
    )  # fmt: skip
    results = distill.run(config)
    lines = [json.loads(line) for line in (tmp_path / "run/metrics.jsonl").read_text().splitlines()]
    epochs = {name: sum(line["model"] == name for line in lines) for name in
              ("alone", "distilled-pretrain", "distilled")}  # fmt: skip
    assert epochs == {"alone": 5, "distilled-pretrain": 2, "distilled": 3}
    assert sorted(results["models"]) == ["alone", "distilled"]
    assert results["models"]["distilled"]["summary"]["accuracy"]["mean"] > 0.5
