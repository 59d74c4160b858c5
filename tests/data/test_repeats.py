"""The same picture in several splits, or under several classes."""

import dataclasses

from kd_keras import data
from kd_keras.data.repeats import with_repeats
from kd_keras.data.task import Repeat, without_validation


def test_the_digits_hold_no_picture_twice_and_what_is_planted_is_found():
    task = data.load("digits")
    assert task.repeats == ()
    train, test = task.train, task.test
    images = train.images.copy()
    images[5] = images[9]  # of another class
    labels = test.labels.copy()
    pixels = test.images.copy()
    pixels[3], labels[3] = images[7], train.labels[7]
    pixels[4], labels[4] = images[8], 1 - min(train.labels[8], 1)
    task = dataclasses.replace(
        task,
        train=dataclasses.replace(train, images=images),
        test=dataclasses.replace(test, images=pixels, labels=labels),
    )
    assert train.labels[5] != train.labels[9]
    task = with_repeats(task)
    assert task.repeats == (
        Repeat("train", "train", 2, 2, "train image 5", "train image 9"),
        Repeat("test", "train", 2, 1, "test image 3", "train image 7"),
    )
    assert without_validation(task).repeats == task.repeats


def test_sentences_tell_one_from_many():
    one, many = (Repeat("test", "train", n, n - 1, "a", "b").sentence for n in (1, 2000))
    assert one == "1 test image is in train too: a is b."
    assert many == "2,000 test images are in train too, 1,999 under another class: a is b."
    same = Repeat("train", "train", 2, 2, "a", "b").sentence
    assert same == "2 train images are in train under more than one class: a is b."
