"""Splits and tasks."""

import dataclasses

import numpy as np
import pytest

from kd_keras import data
from kd_keras.data.splitting import cut, cut_validation, straddling
from kd_keras.data.task import Split, balanced_class_weight


def drawn(labels, **fields):
    labels = np.array(labels, np.int32)
    images = np.arange(len(labels), dtype="uint8")[:, None, None, None]
    return Split(labels, (1, 1, 1), images=images, **fields)


def test_a_split_has_pixels_or_files_and_one_row_an_example(tmp_path):
    labels = np.zeros(2, np.int32)
    with pytest.raises(ValueError, match="exactly one"):
        Split(labels, (1, 1, 1))
    with pytest.raises(ValueError, match="exactly one"):
        Split(labels, (1, 1, 1), images=np.zeros((2, 1, 1, 1)), files=(tmp_path, tmp_path))
    with pytest.raises(ValueError, match="`files` has 1 rows, but `labels` has 2"):
        Split(labels, (1, 1, 1), files=(tmp_path,))
    with pytest.raises(ValueError, match="`weights` has 3 rows, but `labels` has 2"):
        drawn([0, 1], weights=np.ones(3, "float32"))


def test_rows_take_everything_along_in_the_asked_order(tmp_path):
    files = tuple(tmp_path / str(i) for i in range(3))
    soft = np.eye(3, dtype="float32")
    split = Split(
        np.arange(3), (1, 1, 1), files=files, soft_labels=soft, weights=np.arange(3.0) / 3
    )
    chosen = split.rows(np.array([2, 0]))
    assert chosen.labels.tolist() == [2, 0]
    assert chosen.files == (files[2], files[0])
    np.testing.assert_array_equal(chosen.soft_labels, soft[[2, 0]])
    np.testing.assert_allclose(chosen.weights, [2 / 3, 0])
    assert drawn([5, 6, 7]).rows(np.array([1])).images.ravel().tolist() == [1]


def test_limited_keeps_the_shares_of_the_classes_and_the_order():
    split = drawn([0] * 206 + [1] * 94)
    few = split.limited(160)
    assert np.bincount(few.labels).tolist() == [110, 50]
    assert few.images.ravel().tolist() == [*range(110), *range(206, 256)]
    split = drawn([0] * 6 + [1] * 3 + [2])
    assert np.bincount(split.limited(4).labels).tolist() == [2, 1, 1]
    assert np.bincount(split.limited(3).labels).tolist() == [1, 1, 1]
    assert np.bincount(split.limited(7).labels).tolist() == [4, 2, 1]
    assert split.limited(None) is split
    assert split.limited(10) is split
    assert len(split.limited(1)) == 1


def test_validation_is_stratified_disjoint_and_decided_by_the_seed():
    split = drawn([0] * 80 + [1] * 20)
    train, validation = cut_validation(split, share=0.2, seed=0)
    assert np.bincount(train.labels).tolist() == [64, 16]
    assert np.bincount(validation.labels).tolist() == [16, 4]
    ids = [set(part.images.ravel().tolist()) for part in (train, validation)]
    assert not ids[0] & ids[1]
    assert ids[0] | ids[1] == set(range(100))
    again = cut_validation(split, share=0.2, seed=0)[1]
    other = cut_validation(split, share=0.2, seed=1)[1]
    np.testing.assert_array_equal(again.images, validation.images)
    assert set(other.images.ravel().tolist()) != ids[1]


def test_groups_are_cut_as_a_whole():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(40), 5)
    labels = rng.integers(0, 2, 40)[groups].astype("int32")
    rest, chosen = cut(labels, share=0.2, seed=0, what="test", groups=groups)
    assert sorted([*rest, *chosen]) == list(range(200))
    assert straddling([groups[rest], groups[chosen]]) == []
    assert 30 <= len(chosen) <= 50
    assert abs(labels[chosen].mean() - labels.mean()) < 0.1
    other = cut(labels, share=0.2, seed=1, what="test", groups=groups)[1]
    assert set(groups[other]) != set(groups[chosen])
    with pytest.raises(ValueError, match=r"test_share=0.1 cannot .* 3 groups, and this share need"):
        cut(labels[:15], share=0.1, seed=0, what="test", groups=groups[:15])


def test_a_task_prints_itself_in_a_few_lines():
    task = data.load("digits")
    lines = repr(task).splitlines()
    assert lines[0] == "Task 'digits': 10 classes, images of 8x8x1, chosen by accuracy"
    assert lines[-1].split() == ["test", *np.bincount(task.test.labels).astype(str), "360"]
    assert len(lines) == 5
    assert repr(task.train) == "<Split of 1,149 8x8x1 images (pixels)>"
    many = dataclasses.replace(task, class_names=tuple(map(str, range(100))))
    assert repr(many).splitlines()[1].split() == ["fewest", "most", "all"]


def test_balanced_class_weight_by_hand():
    labels = np.array([0, 0, 0, 1, 2, 2])
    weight = balanced_class_weight(labels, classes=4)
    # 6 examples of 4 classes: 6 / (4 * 3), 6 / (4 * 1), 6 / (4 * 2); class 3 has no example
    assert weight == pytest.approx({0: 0.5, 1: 1.5, 2: 0.75})
    # every class that occurs weighs the same in sum
    sums = [weight[k] * np.sum(labels == k) for k in range(3)]
    np.testing.assert_allclose(sums, sums[0])
    two = balanced_class_weight(np.array([0, 0, 0, 1]), classes=2)
    assert np.mean([two[k] for k in (0, 0, 0, 1)]) == pytest.approx(1)


def test_the_registry_names_the_nearest_task_and_option():
    with pytest.raises(ValueError, match=r"Unknown task 'digit'\. Did you mean 'digits'\?"):
        data.load("digit")
    with pytest.raises(ValueError, match=r"option of task 'digits': 'sede'\. Did you mean 'seed'"):
        data.load("digits", sede=1)
    assert data.options_of("mnist") == {"data_dir": None, "seed": 0}


@pytest.mark.parametrize("name", data.TASKS)
def test_every_loader_takes_a_seed(name):
    assert "seed" in data.options_of(name)


def test_a_task_is_one_function_and_one_entry(monkeypatch):
    """Its arguments are its options: all else, errors too, is made from them."""
    digits = data.load("digits")

    def few(*, seed=0, share=0.5):
        rows = np.arange(int(share * len(digits.train)))
        return dataclasses.replace(digits, name=f"few {seed}", train=digits.train.rows(rows))

    monkeypatch.setitem(data.TASKS, "few", few)
    task = data.load("few", share=0.1)
    assert (task.name, len(task.train)) == ("few 0", 114)
    with pytest.raises(ValueError, match=r"Unknown option of task 'few': 'shard'.*'share'"):
        data.load("few", shard=0.1)
