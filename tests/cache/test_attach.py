"""A pipeline of one's own gets the teacher's live answers, whatever its form and order."""

import keras
import numpy as np
import pytest
import tensorflow as tf

import kd_keras as kd
from kd_keras.cache import attach

FORMS = {
    "one by one": lambda d: d,
    "batched": lambda d: d.batch(7),
    "batched, no remainder": lambda d: d.batch(5, drop_remainder=True),
    "shuffled": lambda d: d.shuffle(30),
    "shuffled batches": lambda d: d.shuffle(30).batch(7).shuffle(3),
    "images alone": lambda d: d.map(lambda x, y: x).batch(4),
    "dicts alone": lambda d: d.map(lambda x, y: {"image": x, "label": y}).batch(4),
    "dicts": lambda d: d.map(lambda x, y: ({"image": x, "index": y}, y)).shuffle(30).batch(4),
    "weighted": lambda d: d.map(lambda x, y: (x, y, tf.cast(y, tf.float32))).batch(4),
}


@pytest.fixture
def pipeline(pictures, slices):
    return slices(pictures)


@pytest.mark.slow
@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("where", ["memory", "disk"])
def test_every_example_carries_the_live_answer(form, where, pipeline, cnn, same_answers, on_disk):
    given = FORMS[form](pipeline)
    attached = attach(given, cnn, cache=on_disk() if where == "disk" else None)
    assert same_answers(attached, cnn) == 30
    assert attached.cardinality() == given.cardinality()


def test_labels_weights_and_other_inputs_stay(pipeline, cnn):
    given = FORMS["weighted"](pipeline)
    for (x, y, w), (batch, label, weight) in zip(given, attach(given, cnn), strict=True):
        np.testing.assert_array_equal(batch["image"], x)
        np.testing.assert_array_equal(label, y)
        np.testing.assert_array_equal(weight, w)
    given = FORMS["dicts"](pipeline)
    spec = attach(given, cnn).element_spec
    assert spec[0]["index"] == given.element_spec[0]["index"]
    assert spec[0]["teacher"]["logits"].shape == (None, 10)


def test_static_shapes_stay(pipeline, cnn):
    assert attach(pipeline, cnn).element_spec[0]["teacher"]["logits"].shape == (10,)
    fixed = attach(FORMS["batched, no remainder"](pipeline), cnn).element_spec[0]
    assert (fixed["image"].shape, fixed["teacher"]["logits"].shape) == ((5, 8, 8, 1), (5, 10))


def test_another_order_and_another_batching_open_the_same_rows(pipeline, cnn, on_disk):
    class Never(kd.LiveTeacher):
        def __call__(self, batch):
            assert len(batch["image"]) == 4, "all images were asked again"
            return super().__call__(batch)

    attach(pipeline, cnn, cache=on_disk())
    attach(pipeline.shuffle(30).batch(7), Never(cnn), cache=on_disk())
    assert len([*on_disk().directory.glob("*/")]) == 1


def test_other_taps(pipeline, cnn):
    batch, _ = next(iter(attach(pipeline.batch(30), cnn, taps=("embedding", "logits"))))
    want = kd.LiveTeacher(cnn, ("embedding",))({"image": batch["image"]})["embedding"]
    np.testing.assert_allclose(batch["teacher"]["embedding"], want, rtol=1e-5, atol=1e-5)


def test_an_ensemble(pipeline, cnn, same_answers):
    ensemble = kd.EnsembleTeacher(
        [cnn, kd.models.build("lenet5", input_shape=(8, 8, 1), classes=10)]
    )
    attached = attach(pipeline.batch(7), ensemble)
    assert same_answers(attached, lambda images: ensemble({"image": images})["logits"]) == 30


@pytest.mark.slow
@pytest.mark.parametrize(
    "augmentation",
    ["shift", "symmetries", lambda image, key: tf.image.stateless_random_flip_up_down(image, key)],
    ids=["shift", "symmetries", "function"],
)
def test_every_view_of_an_example_carries_its_own_answer(
    augmentation, pipeline, pictures, cnn, same_answers
):
    attached = attach(pipeline, cnn, augmentation=augmentation, views=3, seed=2)
    assert same_answers(attached.shuffle(90).batch(8).repeat(2), cnn) == 180
    images = np.stack([batch["image"] for batch, _ in attached]).reshape(3, 30, 8, 8, 1)
    assert (images[0] != images[1]).any()
    labels = np.array([label for _, label in attached])
    np.testing.assert_array_equal(labels, np.tile(pictures[1], 3))


def test_a_view_is_that_of_the_example_and_not_of_the_order(pipeline, cnn):
    def views(dataset, **settings):
        settings = {"augmentation": "shift", "views": 2, **settings}
        return {batch["image"].numpy().tobytes() for batch, _ in attach(dataset, cnn, **settings)}

    once = views(pipeline)
    assert once == views(pipeline.shuffle(30))
    assert once != views(pipeline, seed=1)


@pytest.mark.slow
def test_other_augmentations_seeds_and_views_are_other_rows(pipeline, cnn, on_disk):
    settings = [
        {"augmentation": "shift", "views": 2},
        {"augmentation": "shift", "views": 2, "seed": 1},
        {"augmentation": "shift", "views": 3},
        {"augmentation": "mirror", "views": 2},
    ]
    for name in (None, "pictures"):  # by their pixels, and by a name
        for known, setting in enumerate(settings):
            attach(pipeline, cnn, cache=on_disk(), fingerprint=name, **setting)
            folders = [*on_disk().directory.glob("*/")]
            assert len(folders) == known + 1 + (4 if name else 0)


class Noise:
    """Another augmentation at every pass, as a pipeline's own often is."""

    def __init__(self):
        self.generator = tf.random.Generator.from_seed(0)

    def __call__(self, image, *rest):
        noisy = tf.cast(image, tf.float32) + self.generator.normal(tf.shape(image))
        return (noisy, *rest)


def test_random_augmentation_before_is_refused(pipeline, cnn, on_disk):
    noisy = pipeline.map(Noise()).batch(7)
    with pytest.raises(ValueError, match=r"augments at random.*cache.attach\(augmentation=.*views"):
        attach(noisy, cnn, cache=on_disk())
    assert [*on_disk().directory.glob("*/")] == []


def test_random_augmentation_under_a_name_is_an_error_when_it_is_used(pipeline, cnn):
    attached = attach(pipeline.map(Noise()).batch(7), cnn, fingerprint="wrong")
    with pytest.raises(tf.errors.InvalidArgumentError, match="augments at random"):
        list(attached)


def test_an_augmentation_that_is_not_a_function_of_its_key_is_refused(pipeline, cnn):
    noise = Noise()
    with pytest.raises(ValueError, match="augments at random"):
        attach(pipeline, cnn, augmentation=lambda image, key: tf.cast(noise(image)[0], tf.uint8))


def test_other_images_under_the_same_name_are_noticed(pipeline, cnn, on_disk, same_answers, caplog):
    attach(pipeline.batch(7), cnn, cache=on_disk(), fingerprint="pictures")
    other = pipeline.map(lambda x, y: (255 - x, y)).batch(7)
    attached = attach(other, cnn, cache=on_disk(), fingerprint="pictures")
    assert "are not those it was made from" in caplog.text
    assert same_answers(attached, cnn) == 30


def test_a_student_trains_as_with_the_live_teacher(pipeline, cnn):
    def trained(dataset):
        keras.utils.set_random_seed(0)
        student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(8,))
        distiller = kd.Distiller(student=student, teacher=cnn, alpha=0.3)
        distiller.compile("adam", metrics=["accuracy"])
        history = distiller.fit(dataset, epochs=3, verbose=0).history
        return student.get_weights(), history

    # shuffled once, since the pass for the teacher would count as an epoch
    batches = pipeline.shuffle(30, seed=0, reshuffle_each_iteration=False).batch(8)
    weights, history = trained(attach(batches, cnn))
    live_weights, live_history = trained(batches)
    for ours, theirs in zip(weights, live_weights, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-5, atol=1e-6)
    for name in live_history:
        np.testing.assert_allclose(history[name], live_history[name], rtol=1e-5)


def test_views_train_too(pipeline, cnn):
    attached = attach(pipeline, cnn, augmentation="shift", views=2)
    student = kd.models.build("mlp", input_shape=(8, 8, 1), classes=10, hidden=(8,))
    distiller = kd.Distiller(student=student, teacher=cnn)
    distiller.compile("adam")
    endless = attached.shuffle(60).batch(8).repeat()
    history = distiller.fit(endless, epochs=2, steps_per_epoch=4, verbose=0).history
    assert len(history["loss"]) == 2


@pytest.mark.parametrize(
    ("change", "settings", "message"),
    [
        (lambda d: d.repeat(), {}, "repeats forever"),
        (lambda d: d.take(0), {}, "no image"),
        (lambda d: d.batch(3).batch(2), {}, r"must yield images.*3 dimensions"),
        (lambda d: d.map(lambda x, y: ({"picture": x}, y)), {}, "dicts without 'image'"),
        (lambda d: d.batch(3), {"augmentation": "shift"}, "must yield images one by one"),
        (lambda d: d, {"augmentation": "shfit"}, "Did you mean 'shift'?"),
        (lambda d: d, {"augmentation": "none"}, "changes nothing"),
        (lambda d: d, {"views": 2}, "all views of an image are the same"),
        (lambda d: d, {"taps": ("embeding",)}, "no tap 'embeding'"),
    ],
)
def test_what_cannot_be_is_refused(change, settings, message, pipeline, cnn):
    with pytest.raises(ValueError, match=message):
        attach(change(pipeline), cnn, **settings)
