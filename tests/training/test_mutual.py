"""`MutualDistiller`: its numbers, that it is a Distiller for each student, saving, refusals."""

import keras
import numpy as np
import pytest
from keras import layers

import kd_keras as kd
from kd_keras import losses

ZT, ZS, Y = np.array([[4.0, 1, 0], [0, 2, 1]]), np.array([[2.0, 1, 0], [1, 1, 0]]), np.array([0, 1])
THIRD = np.array([[1.0, 0, 0], [0, 1, 0]])


def table(answers):
    """A model that answers example k, the k-th unit vector, with row k."""
    inputs = keras.Input((len(answers),))
    logits = layers.Dense(3, use_bias=False, name="logits")
    model = keras.Model(inputs, logits(inputs))
    logits.kernel.assign(answers)
    return model


def mutual(*students, **settings):
    optimizer = settings.pop("optimizer", None) or keras.optimizers.SGD(0.1)
    trainer = kd.MutualDistiller(students=students, **settings)
    trainer.compile(optimizer, metrics=["accuracy"])
    return trainer


def logs(trainer, x, y, **settings):
    history = trainer.fit(x, y, verbose=0, shuffle=False, **settings).history
    return {name: values[0] for name, values in history.items()}


def test_two_peers_give_the_numbers_of_the_sheet():
    found = logs(mutual(table(ZS), table(ZT)), np.eye(2), Y)
    first = found["student_loss"] + found["distillation_loss"]
    second = found["peer2_student_loss"] + found["peer2_distillation_loss"]
    np.testing.assert_allclose([first, second], [0.87906481, 0.59576733], rtol=1e-6)
    np.testing.assert_allclose(found["loss"], (first + second) / 2, rtol=1e-6)


def test_of_three_peers_each_learns_from_the_mean_of_the_others():
    answers, alpha = [ZS, ZT, THIRD], 0.3
    found = logs(mutual(*map(table, answers), alpha=alpha), np.eye(2), Y)
    total = 0.0
    for i, prefix in enumerate(("", "peer2_", "peer3_")):
        hard = np.mean(losses.cross_entropy(Y, answers[i]))
        kl = [losses.softened_kl(answers[i], z, temperature=1.0) for z in answers]
        soft = np.mean(sum(kl)) / 2  # of itself it is zero
        np.testing.assert_allclose(found[f"{prefix}student_loss"], hard, rtol=1e-5)
        np.testing.assert_allclose(found[f"{prefix}distillation_loss"], soft, rtol=1e-5)
        total += alpha * hard + (1 - alpha) * soft
    np.testing.assert_allclose(found["loss"], total, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("make", [lambda: keras.optimizers.SGD(0.1), keras.optimizers.Adam])
def test_a_step_is_that_of_a_distiller_for_each(mlp, examples, make):
    together = mutual(mlp(0), mlp(1, width=7), optimizer=make())
    together.fit(*examples, batch_size=16, verbose=0)
    for ours, theirs, learned in (
        (mlp(0), mlp(1, width=7), together.students[0]),
        (mlp(1, width=7), mlp(0), together.students[1]),
    ):
        by_itself = kd.Distiller(
            student=ours, teacher=theirs, method=kd.methods.KD(1.0), alpha=0.5, teacher_cache="off"
        )
        by_itself.compile(make())
        by_itself.fit(*examples, batch_size=16, verbose=0)
        for got, want in zip(learned.weights, ours.weights, strict=True):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-6)


class Counted(layers.Dense):
    """Counts how often it runs."""

    def call(self, x, training=None):
        self.count = getattr(self, "count", 0) + 1
        return super().call(x)


def test_each_student_runs_once_a_step(examples):
    students = []
    for _ in range(3):
        inputs = keras.Input((6,))
        students.append(keras.Model(inputs, Counted(3, name="logits")(inputs)))
    trainer = kd.MutualDistiller(students=students)
    trainer.compile("sgd", run_eagerly=True)
    counted = [student.get_layer("logits") for student in students]
    for layer in counted:
        layer.count = 0
    trainer.fit(*examples, batch_size=4, verbose=0)
    assert [layer.count for layer in counted] == [4, 4, 4]


@pytest.mark.slow
def test_a_weight_of_zero_takes_an_example_out_for_all(mlp, examples):
    x, y = examples
    weight = np.where(np.arange(16) % 4 == 0, 0.0, 1.0)
    wrong = np.where((weight == 0)[:, None], 1e3, x).astype("float32")
    ends = []
    for images in (x, wrong):
        trainer = mutual(mlp(0), mlp(1), method="rkd")
        trainer.fit(images, y, batch_size=8, sample_weight=weight, shuffle=False, verbose=0)
        ends.append([w for student in trainer.students for w in student.get_weights()])
    for ours, theirs in zip(*ends, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-7)


@pytest.mark.slow
@pytest.mark.parametrize(
    "method",
    [
        lambda: kd.methods.Hint("embedding", "embedding"),
        lambda: kd.methods.DML(kd.methods.Hint("embedding", "embedding")),
    ],
    ids=["plain", "within another"],
)
def test_every_pair_has_its_own_adapter(mlp, examples, tmp_path, method):
    trainer = mutual(mlp(0, width=4), mlp(1, width=6), method=method())
    assert adapted(trainer) == [[(None, 6)], [(None, 4)]]
    theirs = [v for row in trainer.pairs for pair in row for v in pair.trainable_variables]
    assert {v.path for v in theirs} < {v.path for v in trainer.trainable_variables}
    trainer.fit(*examples, verbose=0)
    trainer.reset([mlp(0, width=4), mlp(1, width=6)], method())
    trainer.save(tmp_path / "mutual.keras")
    again = keras.models.load_model(tmp_path / "mutual.keras")
    assert adapted(again) == adapted(trainer)
    for ours, saved in zip(again.trainable_variables, trainer.trainable_variables, strict=True):
        np.testing.assert_array_equal(ours, saved)


def adapted(trainer):
    hints = [[getattr(pair, "inner", pair) for pair in row] for row in trainer.pairs]
    return [[hint.adapter.adapted_shape for hint in row] for row in hints]


def test_students_and_not_only_the_first_learn_and_are_judged(mlp, examples):
    trainer = mutual(mlp(0), mlp(1), optimizer=keras.optimizers.Adam(0.02))
    x, y = examples
    before = [np.mean(losses.cross_entropy(y, s(x))) for s in trainer.students]
    trainer.fit(x, y, epochs=30, verbose=0)
    after = [np.mean(losses.cross_entropy(y, s(x))) for s in trainer.students]
    assert all(new < 0.8 * old for new, old in zip(after, before, strict=True))
    found = trainer.evaluate(x, y, verbose=0, return_dict=True)
    np.testing.assert_allclose(found["student_loss"], after[0], rtol=1e-4)
    np.testing.assert_allclose(found["peer2_student_loss"], after[1], rtol=1e-4)
    np.testing.assert_allclose(found["loss"], sum(after), rtol=1e-4)
    right = np.argmax(trainer.students[0](x), axis=-1) == y
    assert found["accuracy"] == pytest.approx(np.mean(right))
    np.testing.assert_allclose(trainer.predict(x, verbose=0), trainer.students[0](x), rtol=1e-5)


@pytest.mark.slow
def test_saved_it_goes_on_as_if_it_had_not_been(forgetful, examples, tmp_path):
    x, y = examples
    trainer = mutual(forgetful(0), forgetful(1), optimizer=keras.optimizers.Adam(0.02))
    trainer.fit(x, y, batch_size=8, shuffle=False, verbose=0)
    trainer.save(tmp_path / "mutual.keras")
    again = keras.models.load_model(tmp_path / "mutual.keras")
    for ours, theirs in zip(again.students, trainer.students, strict=True):
        np.testing.assert_allclose(ours(x), theirs(x), rtol=1e-6)
    assert (again.alpha, again.parts) == (0.5, trainer.parts)
    for one in (trainer, again):  # dropout is drawn by seeds that Keras does not save
        for student in one.students:
            student.layers[-2].rate = 0.0
        one.train_function = None
    both = [one.fit(x, y, batch_size=8, shuffle=False, verbose=0) for one in (trainer, again)]
    assert both[0].history == {k: pytest.approx(v, rel=1e-5) for k, v in both[1].history.items()}


def test_a_restarted_one_is_a_new_one(mlp, examples):
    def fit(trainer):
        keras.utils.set_random_seed(3)
        return trainer.fit(*examples, batch_size=4, epochs=2, verbose=0).history

    used = mutual(mlp(0), mlp(1), optimizer=keras.optimizers.Adam(0.02))
    fit(used)
    traced = used.train_function
    used.reset([mlp(2), mlp(3)], kd.methods.DML().loss)
    used.alpha = 0.25
    new = mutual(mlp(2), mlp(3), alpha=0.25, optimizer=keras.optimizers.Adam(0.02))
    assert fit(used) == {k: pytest.approx(v, rel=1e-5) for k, v in fit(new).items()}
    assert used.train_function is traced
    for ours, theirs in zip(used.students, new.students, strict=True):
        for mine, yours in zip(ours.weights, theirs.weights, strict=True):
            np.testing.assert_allclose(mine, yours, rtol=1e-5, atol=1e-6)


def test_alpha_and_knobs_follow_their_schedules(mlp, examples):
    falling = kd.schedules.Linear(4.0, 1.0, epochs=4)
    trainer = mutual(
        mlp(0), mlp(1), method=kd.methods.KD(falling), alpha=kd.schedules.Linear(0.0, 0.6, epochs=4)
    )
    seen = []

    def look(epoch, logs):
        seen.append((trainer.alpha, *[pair.temperature for row in trainer.pairs for pair in row]))

    trainer.fit(
        *examples,
        epochs=4,
        verbose=0,
        callbacks=[keras.callbacks.LambdaCallback(on_epoch_end=look)],
    )
    np.testing.assert_allclose(seen, [(0, 4, 4), (0.2, 3, 3), (0.4, 2, 2), (0.6, 1, 1)], atol=1e-6)


def test_a_memory_of_every_example_is_kept_for_every_pair(mlp, examples):
    x, y = examples
    method = kd.methods.CRD(examples=16, negatives=4, size=4)
    trainer = mutual(mlp(0), mlp(1), method=method, alpha=0.5)
    before = [np.array(v) for v in trainer.pairs[1][0].non_trainable_variables]
    trainer.fit(x, y, batch_size=8, verbose=0)
    after = [np.array(v) for v in trainer.pairs[1][0].non_trainable_variables]
    assert any(not np.array_equal(a, b) for a, b in zip(after, before, strict=True))


# --- refusals ---


def test_students_that_cannot_learn_from_each_other_are_refused(mlp):
    one = mlp(0)
    soft = mlp(1, activation="softmax")
    small = keras.Sequential([keras.Input((4,)), layers.Dense(3)])
    for students, message in (
        ([one], r"two or more Keras models\. Received: \['Functional'\]"),
        ([one, "mlp"], r"two or more Keras models\. Received: \['Functional', 'str'\]"),
        ([one, one], "different models"),
        ([one, soft], r"`students\[1\]` must return logits"),
        ([one, mlp(1, classes=4)], r"\(6,\) to 3 classes, \(6,\) to 4 classes"),
        ([one, small], r"\(6,\) to 3 classes, \(4,\) to 3 classes"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.MutualDistiller(students=students)


def test_methods_that_are_not_between_two_are_refused(mlp):
    students = [mlp(0), mlp(1)]
    for method, message in (
        (kd.methods.CID(), "Received: CID, which deploys something else"),
        (kd.methods.BYOT(), "Received: BYOT, which does not"),
    ):
        with pytest.raises(ValueError, match=message):
            kd.MutualDistiller(students=students, method=method)
    with pytest.raises(ValueError, match="has no tap 'stage2'"):
        kd.MutualDistiller(students=students, method="hint")
    with pytest.raises(ValueError, match="`alpha` must lie in"):
        kd.MutualDistiller(students=students, alpha=2.0)


def test_labels_and_images_are_checked(mlp, examples):
    trainer = mutual(mlp(0), mlp(1))
    x, y = examples
    with pytest.raises(ValueError, match="class numbers from 0 to 2"):
        trainer.fit(x, y + 1, verbose=0)
    with pytest.raises(ValueError, match="size the student 1 takes"):
        trainer.fit(x[:, :4], y, verbose=0)
    with pytest.raises(ValueError, match="Training on labels needs labels"):
        trainer.fit(x, verbose=0)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["hint", "at", "vid", "crd", "rkd", "sp", "pkt", "dkd", "dist"])
def test_peers_of_several_architectures_match_what_other_methods_do(method):
    train = kd.data.load("digits").train
    x, y = train.images[:256], train.labels[:256]
    keras.utils.set_random_seed(0)
    students = [
        kd.models.build(name, input_shape=(8, 8, 1), classes=10) for name in ("lenet5", "cnn")
    ]
    knobs = {"examples": 256, "negatives": 16} if method == "crd" else {}
    made = kd.methods.get("dml", method=kd.methods.get(method, **knobs))
    trainer = mutual(*students, method=made, optimizer=keras.optimizers.Adam(2e-3))
    history = trainer.fit(x, y, epochs=5, batch_size=32, verbose=0).history
    assert history["loss"][-1] < 0.97 * history["loss"][0]
    assert all(np.isfinite(values).all() for values in history.values())
