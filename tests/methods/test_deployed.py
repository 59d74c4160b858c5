"""`CID` and `Subclass`, which change what is deployed: values, state, models, whole runs."""

import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras import losses
from kd_keras.config import CompareConfig, DistillConfig
from kd_keras.recipes import distill, sweep

rng = np.random.default_rng(0)
FS = np.array([[1.0, 0], [1, 1], [0, 2], [1, 2]])
FT = np.array([[1.0, 2, 2], [0, 3, 4], [2, 0, 0], [1, 1, 0]])
LABELS = np.array([0, 0, 1, 0])
# of the sheet's context: the teacher's logits, and the student's
TEACHER = np.array([[2.0, 0], [1, 0], [0, 3], [1, 1]])
STUDENT = np.array([[1.0, 0], [0, 1], [0, 2], [2, 0]])
CONTEXT = [[1, 0.92730813], [0, 2]]


def cid(**settings):
    method = kd.methods.CID(dtype="float64", **settings)
    method.build(
        {"embedding": (None, 2), "logits": (None, 2)}, {"embedding": (None, 3), "logits": (None, 2)}
    )
    method.built = True
    return method


def loss_of(method, training=False, **known):
    student, teacher = {"embedding": FS, "logits": STUDENT}, {"embedding": FT, "logits": TEACHER}
    return np.asarray(method(student, teacher, {"label": LABELS, **known}, training=training))


# --- values ---


def test_cid_is_its_three_terms_with_their_weights():
    method = cid(answer_weight=2.0, feature_weight=3.0, class_weight=4.0)
    # a regressor by which FS becomes nearly the sheet's: solved for, so that the sum is exact
    kernel, bias = (np.array(v) for v in method.regressor.weights)
    terms = [
        losses.softened_kl(STUDENT, TEACHER, temperature=4.0),
        losses.relative_distance(FS @ kernel + bias, FT),
        losses.class_similarity_difference(FS, FT, LABELS),
    ]
    want = sum(w * np.asarray(term) for w, term in zip((2.0, 3.0, 4.0), terms, strict=True))
    np.testing.assert_allclose(loss_of(method), want, rtol=1e-9)
    np.testing.assert_allclose(np.mean(terms[2]), 0.08749743, atol=5e-9)


def test_the_contexts_are_those_of_the_sheet_and_are_used_in_the_next_epoch():
    method = cid()
    method.on_epoch_begin(0)
    for rows in ([0, 1], [2, 3]):  # two batches
        views = [
            {"embedding": f[rows], "logits": z[rows]} for f, z in ((FS, STUDENT), (FT, TEACHER))
        ]
        method(*views, {"label": LABELS[rows]}, training=True)
    assert not np.any(method.context.kernel)
    method.on_epoch_begin(1)
    np.testing.assert_allclose(method.context.kernel, CONTEXT, atol=5e-9)
    expected = method.context(tf.nn.softmax(STUDENT / 4.0))
    want = [
        [0.56217650, 1.39695784],
        [0.43782350, 1.53035029],
        [0.37754067, 1.59501519],
        [0.62245933, 1.33229294],
    ]
    np.testing.assert_allclose(expected, want, atol=5e-9)
    method.on_epoch_begin(2)  # nothing was seen since: they stay
    np.testing.assert_allclose(method.context.kernel, CONTEXT, atol=5e-9)
    views = {"embedding": 3 * FS, "logits": STUDENT}, {"embedding": FT, "logits": TEACHER}
    method(*views, {"label": LABELS}, training=True)
    method.on_epoch_begin(3)  # of the last epoch alone
    np.testing.assert_allclose(method.context.kernel, 3 * np.array(CONTEXT), atol=2e-8)


def test_contexts_keep_a_share_and_leave_out_examples_of_weight_zero_and_other_modes():
    method = cid(context_momentum=0.25)
    method.context.kernel.assign([[8.0, 8], [4, 4]])
    loss_of(method, training=False)
    loss_of(method, training=True, weight=np.array([0.0, 0, 1, 1]))
    method.on_epoch_begin(1)
    want = [[0.25 * 8 + 0.75 * 1, 0.25 * 8 + 0.75 * 2], [0.25 * 4, 0.25 * 4 + 0.75 * 2]]
    np.testing.assert_allclose(method.context.kernel, want, rtol=1e-9)


def test_labels_do_not_reach_the_students_own_head_nor_the_contexts():
    method = cid()
    method.context.kernel.assign(CONTEXT)
    features, logits = tf.constant(FS), tf.constant(STUDENT)
    with tf.GradientTape() as tape:
        tape.watch([features, logits])
        loss = losses.cross_entropy(
            LABELS, method.deployed_logits({"embedding": features, "logits": logits})
        )
    ours, own, head = tape.gradient(loss, [features, logits, method.head.kernel.value])
    assert own is None
    assert np.any(ours)
    assert np.any(head)
    assert method.context.kernel.path not in {v.path for v in method.trainable_variables}


def test_subclass_gives_the_numbers_of_the_sheet():
    v = np.array([[2.0, 0, 1, -1], [0, 1, 3, 2], [-1, 0, 0, 5]])
    student = np.array([[1.0, 0, 1, 0], [0, 0, 2, 2], [0, 0, 1, 3]])
    method = kd.methods.SubclassKD(2, temperature=4.0, dtype="float64")
    p = np.exp(v / 4.0) / np.exp(v / 4.0).sum(axis=-1, keepdims=True)
    entropy = -(p * np.log(p)).sum(axis=-1).mean()  # the sheet's form is not a divergence
    soft = np.mean(method({"logits": student}, {"logits": v}, {})) + 16 * entropy
    np.testing.assert_allclose(soft, 21.05928043, atol=5e-8)
    hard = losses.cross_entropy(np.array([0, 1, 1]), method.deployed_logits({"logits": student}))
    np.testing.assert_allclose(np.mean(hard), 0.30138160, atol=5e-9)


@pytest.mark.slow
def test_a_teacher_is_trained_to_use_its_subclasses(tmp_path):
    """With the auxiliary loss the logits of a class's subclasses part; without, they need not."""
    spreads = []
    for weight in (1e-6, 3.0):
        keras.utils.set_random_seed(0)
        teacher = kd.models.build("lenet5", input_shape=(8, 8, 1), classes=2 * 3)
        loss = kd.methods.SubclassTeacherLoss(3, temperature=0.5, weight=weight)
        teacher.compile(keras.optimizers.Adam(3e-3), loss)
        train = kd.data.load("digits").train
        teacher.fit(train.images[:256], train.labels[:256] // 5, epochs=6, batch_size=64, verbose=0)
        teacher.save(tmp_path / "teacher.keras")
        logits = keras.models.load_model(tmp_path / "teacher.keras").predict(
            train.images[:256], verbose=0
        )
        spreads.append(np.mean(losses.subclass_spread(logits, temperature=0.5)))
    assert spreads[1] < spreads[0] - 0.2


# --- models ---


def images(n=32):
    return rng.integers(0, 256, (n, 8, 8, 1)).astype("uint8"), np.arange(n) % 10


def networks(student="lenet5", classes=10):
    keras.utils.set_random_seed(0)
    return {
        role: kd.models.build(kind, input_shape=(8, 8, 1), classes=classes)
        for role, kind in (("student", student), ("teacher", "cnn"))
    }


def trained(method, epochs=2, classes=10, **settings):
    distiller = kd.Distiller(**networks(classes=classes), method=method, alpha=0.5, **settings)
    distiller.compile(metrics=["accuracy"])
    x, y = images()
    distiller.fit(x, y % (2 if classes == 20 else 10), epochs=epochs, batch_size=8, verbose=0)
    return distiller


SETTINGS = {
    "cid": lambda: trained(kd.methods.CID()),
    "cid on maps": lambda: trained(kd.methods.CID("stage2", "stage2")),
    "subclass": lambda: trained(kd.methods.Subclass(10), classes=20),
    "a sum": lambda: trained(kd.methods.Sum({"a": kd.methods.CID(), "b": kd.methods.KD()})),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SETTINGS)
def test_what_is_deployed_answers_as_the_method_and_is_judged(name):
    distiller = SETTINGS[name]()
    x, y = images()
    y = y % distiller.classes
    views = distiller.extractor(x)
    answer = distiller.method.deployed_logits(views)
    deployed = distiller.deployed.predict(x, verbose=0)
    assert deployed.shape == (32, distiller.classes)
    np.testing.assert_allclose(deployed, answer, atol=1e-4)
    np.testing.assert_allclose(distiller.predict(x, verbose=0), deployed, atol=1e-5)
    found = distiller.evaluate(x, y, verbose=0, return_dict=True)
    assert found["accuracy"] == pytest.approx(np.mean(deployed.argmax(axis=-1) == y))
    hard = np.mean(losses.cross_entropy(y, deployed))
    np.testing.assert_allclose(found["student_loss"], hard, rtol=1e-4)
    own = distiller.student.predict(x, verbose=0)
    assert own.shape != deployed.shape or not np.allclose(own, deployed, atol=1e-3)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cid", "subclass"])
def test_what_is_deployed_is_loaded_without_this_library(name, tmp_path):
    distiller = SETTINGS[name]()
    x, _ = images()
    distiller.deployed.save(tmp_path / "deployed.keras")
    np.save(tmp_path / "x.npy", x)
    code = (
        "import sys, keras, numpy as np\n"
        "model = keras.models.load_model('deployed.keras')\n"
        "np.save('answer.npy', model.predict(np.load('x.npy'), verbose=0))\n"
        "assert 'kd_keras' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True)
    want = distiller.predict(x, verbose=0)
    np.testing.assert_allclose(np.load(tmp_path / "answer.npy"), want, atol=1e-5)


def test_a_method_without_a_say_deploys_the_student_itself():
    distiller = trained(kd.methods.KD(), epochs=1)
    assert distiller.deployed is distiller.student
    assert not kd.methods.Sum({"a": kd.methods.KD()}).changes_deployed


def test_training_goes_on_after_loading_with_the_contexts_of_before(tmp_path):
    distiller = trained(kd.methods.CID())
    distiller.save(tmp_path / "d.keras")
    again = keras.models.load_model(tmp_path / "d.keras")
    x, _ = images()
    assert np.any(again.method.context.kernel)
    np.testing.assert_allclose(
        again.predict(x, verbose=0), distiller.predict(x, verbose=0), atol=1e-5
    )


def test_only_one_method_may_decide_on_what_is_deployed():
    two = {"a": kd.methods.CID(), "b": kd.methods.SubclassKD(2)}
    with pytest.raises(ValueError, match=r"one that decides what is deployed\. Received: a, b"):
        kd.methods.Sum(two)


def test_a_tap_inside_a_nested_student_is_deployed_from():
    """A backbone inside a model is how transfer learning is written."""
    both = networks()
    inputs = keras.Input((8, 8, 1))
    nested = keras.Model(inputs, both["student"](inputs))
    distiller = kd.Distiller(
        student=nested, teacher=both["teacher"], method=kd.methods.CID("lenet5/embedding")
    )
    distiller.compile(run_eagerly=True)
    x, y = images()
    distiller.fit(x[:8], y[:8], batch_size=4, verbose=0)
    np.testing.assert_allclose(
        distiller.deployed(x[:8]), distiller.predict(x[:8], verbose=0), atol=1e-5
    )


@pytest.mark.parametrize("bad", [0, 2.0, True, "2"])
def test_subclasses_are_whole(bad):
    with pytest.raises(ValueError, match="`subclasses` must be a positive whole number"):
        kd.methods.Subclass(bad)


@pytest.mark.parametrize("bad", [3, 10])
def test_subclasses_divide_the_logits(bad):
    with pytest.raises(ValueError, match=f"subclasses={bad}, and 10 logits"):
        kd.Distiller(**networks(), method=kd.methods.Subclass(bad))


# --- whole runs ---

SMALL = {"teacher_knobs": ("width=0.25",), "epochs": 2, "limit": 128}


@pytest.mark.slow
def test_a_run_judges_saves_and_exports_what_is_deployed(tmp_path):
    config = DistillConfig(
        method="cid",
        student="lenet5",
        seeds=(0,),
        out=tmp_path / "run",
        export=tmp_path / "student",
        **SMALL,
    )
    found = distill.run(config)
    student = keras.models.load_model(tmp_path / "run" / "student.keras")
    assert "context" in {layer.name for layer in student.layers}
    costs = {role: found["models"][role]["cost"] for role in ("alone", "distilled")}
    assert costs["distilled"]["parameters"] > costs["alone"]["parameters"]
    assert Path(found["export"]["path"]).is_dir()  # it was compared with the model in a new process


@pytest.mark.slow
def test_a_comparison_holds_methods_of_both_kinds(tmp_path):
    config = CompareConfig(
        students=("lenet5",), methods=("kd", "cid"), seeds=(0,), out=tmp_path / "run", **SMALL
    )
    found = sweep.run(config)
    models = {name: entry["cost"]["parameters"] for name, entry in found["models"].items()}
    assert models["lenet5 cid"] > models["lenet5 kd"] == models["lenet5 alone"]
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    last = {entry["model"]: entry["validation"] for entry in map(json.loads, lines)}
    assert set(last) == {"teacher", "lenet5 alone", "lenet5 kd", "lenet5 cid"}
