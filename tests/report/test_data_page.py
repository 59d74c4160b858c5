"""The page about data, and the command that writes it."""

import json

import numpy as np
import pytest

from kd_keras import data
from kd_keras.cli import main
from kd_keras.data import arrays
from kd_keras.report import data_page


@pytest.fixture
def task():
    x = np.zeros((60, 6, 5, 3), "uint8")
    x[..., 0], x[:30, ..., 1] = 10, 100
    x[..., 2] = np.arange(60)[:, None, None]
    return arrays.from_arrays(x, np.array(["a", "b<"])[np.arange(60) // 30], validation_share=0.2)


def test_facts_are_those_of_the_pixels(task):
    found = data_page.facts(task)
    assert found["images"] == {"train": 38, "validation": 10, "test": 12}
    assert found["images_by_class"]["test"] == [6, 6]
    red, green, blue = found["channels"]
    assert (red["mean"], red["std"]) == (10, 0)
    assert (green["mean"], green["std"]) == (50, 50)
    train = task.train.images[..., 2]
    assert blue["mean"] == pytest.approx(train.mean())
    assert found["fingerprint"] == task.fingerprint
    assert found["odd"] == list(task.odd)


def test_the_page_shows_counts_channels_what_is_odd_and_pictures(task, tmp_path):
    page = data_page.build(task, tmp_path / "deep/data.html")
    text = page.read_text()
    for part in ("60 images in 2 classes, 6x5x3", "b&lt;", "50.0 %", "standard deviation"):
        assert part in text
    assert all(sentence in text for sentence in task.odd)
    assert text.count("data:image/png;base64,") == 1
    assert data_page.build(task, page) == page  # its own page is replaced
    other = tmp_path / "mine.html"
    other.write_text("mine")
    with pytest.raises(FileExistsError, match="not such a page"):
        data_page.build(task, other)
    assert other.read_text() == "mine"


def test_many_classes_and_grey_pictures_are_drawn():
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 256, (400, 8, 8), "uint8"), np.arange(400) % 40
    task = arrays.from_arrays(x, y, validation_share=0.2)
    figure = data_page.samples(task)
    assert len(figure.axes) == data_page.CLASSES_SHOWN * data_page.PER_CLASS
    assert repr(task).splitlines()[2].split()[1:] == ["6", "7", "256"]


def test_the_command_prints_the_task_and_writes_the_page(tmp_path, capsys):
    page = tmp_path / "page.html"
    assert main(["data", "--task", "digits_halves", "--out", str(page)]) == 0
    said = capsys.readouterr().out
    assert said.startswith(repr(data.load("digits_halves")))
    assert "channel 0: mean 77" in said
    assert page.is_file()
    assert main(["data", "--task", "digits", "--out", str(page), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"]["test"] == 360


@pytest.mark.parametrize(
    ("words", "match"),
    [
        (["absent"], "There is no 'absent'"),
        (["a", "--data", "b"], "Name the data once"),
        (["--group", "patient"], "`group` names a column of your own data"),
        (["--task", "digit"], "Did you mean 'digits'"),
    ],
)
def test_wrong_words_are_answered_in_a_sentence(words, match, capsys):
    assert main(["data", *words]) == 2
    assert match in capsys.readouterr().err
