"""What one step computes: losses, gradients and weights, each against the same by hand."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from keras import layers

import kd_keras as kd


def regularised(seed=0):
    """A student with a weight penalty and an activity penalty."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((6,)),
            layers.Dense(5, activation="tanh", kernel_regularizer=keras.regularizers.L2(0.1)),
            layers.Dense(3, activity_regularizer=keras.regularizers.L2(0.05)),
        ]
    )


def terms_by_hand(logits, teacher, y, temperature):
    """Cross-entropy and softened KL of every example, by TensorFlow's own functions."""
    hard = tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits)
    p = tf.nn.softmax(teacher / temperature)
    log_ratio = tf.nn.log_softmax(teacher / temperature) - tf.nn.log_softmax(logits / temperature)
    return hard, temperature**2 * tf.reduce_sum(p * log_ratio, axis=-1)


def step_by_hand(student, teacher, x, y, *, alpha, temperature, rate, weight=1.0):
    """The logs of one step of gradient descent, which is taken."""
    with tf.GradientTape() as tape:
        logits = student(x, training=True)
        hard, soft = terms_by_hand(logits, teacher, y, temperature)
        mixed = tf.reduce_mean(weight * (alpha * hard + (1 - alpha) * soft))
        loss = mixed + tf.add_n([0.0, *student.losses])
    for variable, gradient in zip(
        student.trainable_variables,
        tape.gradient(loss, [v.value for v in student.trainable_variables]),
        strict=True,
    ):
        variable.assign_sub(rate * gradient)
    return {
        "loss": float(loss),
        "student_loss": float(tf.reduce_mean(weight * hard)),
        "distillation_loss": float(tf.reduce_mean(weight * soft)),
    }


def one_step(student, teacher, x, y, *, alpha=0.3, temperature=2.0, rate=0.5, **settings):
    distiller = kd.Distiller(
        student=student, teacher=teacher, method=kd.methods.KD(temperature), alpha=alpha
    )
    distiller.compile(keras.optimizers.SGD(rate))
    history = distiller.fit(x, y, batch_size=len(x), verbose=0, shuffle=False, **settings)
    return {name: values[0] for name, values in history.history.items()}


def same_weights(model, other, rtol=1e-5, atol=1e-6):
    for ours, theirs in zip(model.variables, other.variables, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=rtol, atol=atol, err_msg=ours.path)


@pytest.mark.slow
@pytest.mark.parametrize("alpha", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_a_step_is_the_step_by_hand(examples, alpha, temperature, linear_teacher):
    (x, y), teacher = examples, linear_teacher()
    student, twin = regularised(), regularised()
    settings = {"alpha": alpha, "temperature": temperature, "rate": 0.5}
    logs = one_step(student, teacher, x, y, **settings)
    want = step_by_hand(twin, x @ teacher.kernel, x, y, **settings)
    assert logs == pytest.approx(want, rel=1e-5)
    same_weights(student, twin)


def test_the_sheets_numbers_come_out_of_fit():
    """Logits as weights: 0.1 * CE + 0.9 * KD at T=4 is 0.47161496."""
    student = keras.Sequential([keras.Input((2,)), layers.Dense(3, use_bias=False)])
    student.layers[0].kernel.assign([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    teacher = kd.CachedTeacher({"logits": np.array([[4.0, 1.0, 0.0], [0.0, 2.0, 1.0]], "float32")})
    x, y = np.eye(2, dtype="float32"), np.array([0, 1])
    logs = one_step(student, teacher, x, y, alpha=0.1, temperature=4.0, rate=1.0)
    assert logs == pytest.approx(
        {"loss": 0.47161496, "student_loss": 0.63480038, "distillation_loss": 0.45348325}, rel=1e-5
    )
    soft = np.array([[-0.24835332, 0.13961840, 0.10873491], [0.21118451, -0.11872297, -0.09246154]])
    logits = np.array([[2.0, 1.0, 0.0], [1.0, 1.0, 0.0]])
    hard = (np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True) - np.eye(3)[y]) / 2
    np.testing.assert_allclose(
        student.layers[0].kernel, logits - 0.1 * hard - 0.9 * soft, rtol=1e-5, atol=1e-6
    )


def test_the_logs_are_the_three_losses_and_the_students_metrics(examples, mlp):
    x, y = examples
    student = mlp(0)
    distiller = kd.Distiller(student=student, teacher=mlp(1))
    distiller.compile("sgd", metrics=["accuracy"], weighted_metrics=["accuracy"])
    want = np.mean(np.argmax(student.predict(x, verbose=0), axis=1) == y)
    history = distiller.fit(x, y, batch_size=16, verbose=0).history
    assert list(history) == [
        "accuracy",
        "distillation_loss",
        "loss",
        "student_loss",
        "weighted_accuracy",
    ]
    assert history["accuracy"] == history["weighted_accuracy"] == [pytest.approx(want)]


def test_losses_of_an_epoch_are_means_over_examples(examples, mlp, linear_teacher):
    """Batches of 12 and 4: the second counts a third of the first."""
    x, y = examples
    student, teacher = mlp(0), linear_teacher()
    hard, soft = terms_by_hand(student(x), x @ teacher.kernel, y, 4.0)
    distiller = kd.Distiller(student=student, teacher=teacher)
    distiller.compile(keras.optimizers.SGD(0.0))
    history = distiller.fit(x, y, batch_size=12, verbose=0).history
    assert history["student_loss"] == [pytest.approx(np.mean(hard), rel=1e-5)]
    assert history["distillation_loss"] == [pytest.approx(np.mean(soft), rel=1e-5)]


def test_alpha_one_is_plain_training(examples, forgetful, linear_teacher):
    x, y = examples
    plain, student = forgetful(), forgetful()
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    plain.compile(keras.optimizers.SGD(0.05, momentum=0.9), loss, metrics=["accuracy"])
    keras.utils.set_random_seed(3)
    alone = plain.fit(x, y, batch_size=5, epochs=4, verbose=0).history
    distiller = kd.Distiller(student=student, teacher=linear_teacher(), alpha=1.0)
    distiller.compile(keras.optimizers.SGD(0.05, momentum=0.9), metrics=["accuracy"])
    keras.utils.set_random_seed(3)
    together = distiller.fit(x, y, batch_size=5, epochs=4, verbose=0).history
    for name in ("loss", "accuracy"):
        np.testing.assert_allclose(together[name], alone[name], rtol=1e-5)
    same_weights(student, plain)


def test_alpha_zero_trains_without_labels_as_it_does_with_them(examples, mlp, linear_teacher):
    x, y = examples
    student, twin = mlp(0), mlp(0)
    logs = one_step(student, linear_teacher(), x, None, alpha=0.0)
    assert list(logs) == ["distillation_loss", "loss"]
    assert logs["loss"] == logs["distillation_loss"]
    want = one_step(twin, linear_teacher(), x, y, alpha=0.0)
    assert logs["loss"] == pytest.approx(want["loss"], rel=1e-6)
    same_weights(student, twin)


def test_soft_labels_are_cross_entropy_too(examples, mlp, linear_teacher):
    x, y = examples
    student, twin = mlp(0), mlp(0)
    one_hot = np.eye(3, dtype="float32")[y]
    assert one_step(student, linear_teacher(), x, one_hot) == pytest.approx(
        one_step(twin, linear_teacher(), x, y[:, None]), rel=1e-6
    )
    same_weights(student, twin)


def test_a_loss_of_the_users_own_takes_the_place_of_cross_entropy(examples, mlp, linear_teacher):
    x, y = examples
    student = mlp(0)
    targets = np.eye(3, dtype="float32")[y]
    want = np.mean((np.asarray(student(x)) - targets) ** 2)
    distiller = kd.Distiller(student=student, teacher=linear_teacher(), alpha=1.0)
    distiller.compile("sgd", loss="mean_squared_error")
    history = distiller.fit(x, targets, batch_size=16, verbose=0).history
    assert history["loss"] == [pytest.approx(want, rel=1e-5)]


def test_sample_weights_act_on_every_term(examples, linear_teacher):
    (x, y), teacher = examples, linear_teacher()
    weight = np.linspace(0.0, 3.0, 16).astype("float32")
    settings = {"alpha": 0.3, "temperature": 2.0, "rate": 0.5}
    student, twin = regularised(), regularised()
    logs = one_step(student, teacher, x, y, sample_weight=weight, **settings)
    want = step_by_hand(twin, x @ teacher.kernel, x, y, weight=weight, **settings)
    assert logs == pytest.approx(want, rel=1e-5)
    same_weights(student, twin)


def test_class_weights_are_the_sample_weights_of_their_classes(examples, mlp, linear_teacher):
    x, y = examples
    weights = {0: 0.5, 1: 2.0, 2: 0.0}
    student, twin = mlp(0), mlp(0)
    by_class = one_step(student, linear_teacher(), x, y, class_weight=weights)
    sample_weight = np.array([weights[k] for k in y], "float32")
    by_sample = one_step(twin, linear_teacher(), x, y, sample_weight=sample_weight)
    assert by_class == pytest.approx(by_sample, rel=1e-6)
    same_weights(student, twin)


def test_weight_zero_is_the_example_left_out_of_the_same_sum(examples, mlp, linear_teacher):
    """The sum runs over ten examples and is divided by sixteen, the size of the batch."""
    x, y = examples
    weight = (np.arange(16) < 10).astype("float32")
    student, twin = mlp(0), mlp(0)
    logs = one_step(student, linear_teacher(), x, y, sample_weight=weight)
    alone = one_step(twin, linear_teacher(), x[:10], y[:10], rate=0.5 * 10 / 16)
    assert logs == pytest.approx({k: v * 10 / 16 for k, v in alone.items()}, rel=1e-5)
    same_weights(student, twin)


def test_weights_of_zero_alone_change_nothing(examples, mlp, linear_teacher):
    x, y = examples
    student = mlp(0)
    logs = one_step(student, linear_teacher(), x, y, sample_weight=np.zeros(16, "float32"))
    assert set(logs.values()) == {0.0}
    same_weights(student, mlp(0), rtol=0, atol=0)


def test_evaluate_weighs_and_regularises(examples, linear_teacher):
    x, y = examples
    student = regularised()
    weight = np.linspace(0.0, 3.0, 16).astype("float32")
    distiller = kd.Distiller(student=student, teacher=linear_teacher())
    distiller.compile("sgd", metrics=["accuracy"])
    listed = distiller.evaluate(x, y, batch_size=16, sample_weight=weight, verbose=0)
    logits = student(x)
    hard = np.mean(weight * tf.nn.sparse_softmax_cross_entropy_with_logits(y, logits))
    accuracy = np.mean(np.argmax(logits, axis=1) == y)
    # the order of Keras: the loss, the compiled metrics, then what the model itself tracks
    assert listed == pytest.approx([hard + float(sum(student.losses)), accuracy, hard], rel=1e-5)
