"""A user's own folder of images."""

import os
import shutil
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from kd_keras import data
from kd_keras.data import folder, images


def draw(path, colour, size=(8, 8)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", size[::-1], colour).save(path)


def fill(root, counts, size=(8, 8)):
    """Images of `counts` = {"train/cat": 10, ...}, each of its own colour."""
    for number, (place, count) in enumerate(counts.items()):
        for i in range(count):
            draw(root / place / f"{i:02}.png", (10 * number, i, 0), size)
    return root


@pytest.fixture
def root(tmp_path):
    return fill(
        tmp_path, {"train/dog": 20, "train/cat": 10, "test/cat": 3, "test/dog": 2}, size=(8, 6)
    )


def faults_of(root, count, **options):
    with pytest.raises(ValueError, match=f"^{count} faults? in ") as error:
        folder.load(root, **options)
    return str(error.value)


def test_loads_lazy_splits_with_sorted_classes_and_the_common_size(root):
    task = folder.load(root)
    assert task.name == root.name
    assert task.class_names == ("cat", "dog")
    assert task.metric == "accuracy"
    assert task.image_shape == (8, 6, 3)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [27, 3, 5]
    for split in (task.train, task.validation, task.test):
        assert split.images is None
        assert split.labels.dtype == np.int32
        names = [task.class_names[label] for label in split.labels]
        assert names == [path.parent.name for path in split.files]
    assert {path.parents[1] for path in task.test.files} == {root / "test"}


def test_the_pixels_are_those_on_disk(root):
    split = folder.load(root).test
    place = split.files.index(root / "test/dog/01.png")
    pixels = images.in_memory(split).images[place]
    np.testing.assert_array_equal(pixels, np.full((8, 6, 3), (30, 1, 0)))


def test_validation_is_cut_stratified_by_the_seed(root):
    task = folder.load(root, validation_share=0.2)
    assert np.bincount(task.validation.labels).tolist() == [2, 4]
    assert not set(task.train.files) & set(task.validation.files)
    again, other = (folder.load(root, validation_share=0.2, seed=seed) for seed in (0, 1))
    assert again.validation.files == task.validation.files
    assert other.validation.files != task.validation.files
    assert other.test.files == task.test.files


def test_the_partitions_go_by_their_usual_names_in_either_case(root):
    fill(root, {"validation/cat": 2, "validation/dog": 1}, size=(8, 6))
    taken = {"train": root / "train", "validation": root / "validation", "test": root / "test"}
    names = {"validation": ("valid", "val", "dev", "VALID", "validation")}
    names |= {"train": ("training", "Train"), "test": ("testing", "TEST")}
    for part, others in names.items():
        for name in others:
            taken[part] = taken[part].rename(root / name)
            task = folder.load(root)
            assert [len(s) for s in (task.train, task.validation, task.test)] == [30, 3, 5]
            assert {path.parents[1].name for path in getattr(task, part).files} == {name}
    assert sorted(task.validation.labels.tolist()) == [0, 0, 1]


def test_two_folders_of_one_partition_are_refused(root):
    for name, first in (("validation", "valid"), ("train", "training")):
        fill(root, {f"{name}/cat": 2, f"{first}/cat": 2})
        with pytest.raises(ValueError, match=f"both of which mean {name}; keep one of them"):
            folder.load(root)
        shutil.rmtree(root / first)


def test_a_folder_of_another_meaning_is_a_fault_and_hidden_ones_are_none(root):
    for name in (".git", "__MACOSX/train"):
        (root / name).mkdir(parents=True)
    folder.load(root)
    for name in ("validaton", "extra"):
        (root / name).mkdir()
    message = faults_of(root, 2)
    assert (
        f"{root / 'validaton'}: Unknown partition 'validaton'. Did you mean 'validation'?"
        in message
    )
    assert f"{root / 'extra'}: Unknown partition 'extra'." in message


def test_a_name_that_is_not_utf8_is_read_of_an_image_and_refused_of_a_class(root):
    strange = os.fsdecode(b"caf\xe9")
    (root / "test/cat/00.png").rename(root / "test/cat" / f"{strange}.png")
    task = folder.load(root)
    assert images.in_memory(task.test).images.shape == (5, 8, 6, 3)
    for part in ("train", "test"):
        (root / part / "cat").rename(root / part / strange)
    with pytest.raises(ValueError, match=r"caf\\xe9: the name of a class must be UTF-8"):
        folder.load(root)


def test_repeated_pictures_are_counted_logged_and_do_not_stop(root, caplog):
    assert folder.load(root).repeats == ()
    shutil.copy(root / "train/dog/03.png", root / "test/cat/copy.png")
    shutil.copy(root / "train/dog/04.png", root / "test/dog/copy.png")
    shutil.copy(root / "train/dog/05.png", root / "train/dog/again.png")  # twice as heavy, no more
    shutil.copy(root / "train/dog/06.png", root / "train/cat/other.png")
    with Image.open(root / "train/cat/00.png") as image:  # other bytes, the same pixels
        image.save(root / "test/cat/00b.tif")
    draw(root / "valid/cat/0.png", "white", (8, 6))
    shutil.copytree(root / "train/dog", root / "valid/dog")
    task = data.load("folder", data_dir=root)
    told = {(r.split, r.other): (r.count, r.other_class) for r in task.repeats}
    assert told == {
        ("train", "train"): (2, 2),
        ("validation", "train"): (21, 1),
        ("test", "train"): (3, 1),
        ("test", "validation"): (2, 1),
    }
    (test,) = (r for r in task.repeats if (r.split, r.other) == ("test", "train"))
    assert test.first in ("test/cat/copy.png", "test/dog/copy.png", "test/cat/00b.tif")
    assert [record.message for record in caplog.records] == [
        f"{root.name}: {sentence}" for sentence in task.odd
    ]


def test_every_ending_is_read_in_either_case_and_hidden_files_are_passed_over(root):
    for name in ("a.PNG", "b.jpg", "c.JPEG", "d.bmp", "e.gif", "f.TIF", "g.webp"):
        draw(root / "test/cat" / name, "red", (8, 6))
    (root / "test/.DS_Store").touch()
    (root / "test/cat/.DS_Store").touch()
    (root / "README.txt").touch()
    assert len(folder.load(root).test) == 12


def test_image_size_channels_and_metric_are_as_asked(root):
    task = folder.load(root, image_size=5, channels=1, metric="auc")
    assert task.image_shape == (5, 5, 1)
    assert task.metric == "auc"
    assert images.in_memory(task.test).images.shape == (5, 5, 5, 1)


def test_fingerprint_follows_content_and_partition_not_the_place(root, tmp_path_factory):
    first = folder.load(root).fingerprint
    moved = tmp_path_factory.mktemp("moved") / "data"
    root.rename(moved)
    assert folder.load(moved).fingerprint == first
    assert folder.load(moved, seed=1).fingerprint != first
    assert folder.load(moved, image_size=4).fingerprint != first
    draw(moved / "test/cat/00.png", "white", (8, 6))
    assert folder.load(moved).fingerprint != first


def test_of_unlabelled_images_those_in_hidden_folders_are_passed_over(root):
    split, fingerprint = folder.unlabelled(root, (8, 6, 3))
    assert len(split) == 35
    for name in (".thumbnails/a.png", "__MACOSX/train/a.png", "train/._a.png"):
        draw(root / name, "red")
    assert folder.unlabelled(root, (8, 6, 3))[1] == fingerprint


# --- what is refused ---


def test_a_missing_folder_is_named_with_the_layout(tmp_path, root):
    with pytest.raises(
        FileNotFoundError, match=r"no folder data_dir.*Expected: one folder per class"
    ):
        folder.load(tmp_path / "absent")
    with pytest.raises(
        FileNotFoundError, match=r"`data_dir` must name.*None.*Expected: one folder per class"
    ):
        folder.load(None)


def test_a_missing_train_is_named_and_a_missing_test_is_cut(root):
    (root / "test").rename(root.with_name("elsewhere"))
    task = folder.load(root)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [21, 3, 6]
    other = folder.load(root, seed=1)
    assert other.test.files == task.test.files
    assert other.validation.files != task.validation.files
    root.with_name("elsewhere").rename(root / "test")
    shutil.rmtree(root / "train")
    with pytest.raises(FileNotFoundError, match="no folder train/"):
        folder.load(root)


def test_a_flat_folder_of_classes_is_split(root, tmp_path_factory):
    task = folder.load(root / "train")
    assert [len(s) for s in (task.train, task.validation, task.test)] == [21, 3, 6]
    assert task.class_names == ("cat", "dog")
    draw(root / "train/stray.png", "red", (8, 6))
    assert "a stray file" in faults_of(root / "train", 1)


def test_one_class_is_not_enough(tmp_path):
    fill(tmp_path, {"train/cat": 3, "test/cat": 3})
    with pytest.raises(ValueError, match=r"at least two classes.*Received: cat"):
        folder.load(tmp_path)


def test_an_unknown_class_gets_the_nearest_name(root):
    draw(root / "test/dogs/0.png", "red", (8, 6))
    message = faults_of(root, 1)
    assert f"{root / 'test/dogs'}: Unknown class 'dogs'. Did you mean 'dog'?" in message


def test_an_empty_class_and_an_absent_one_are_faults(root):
    (root / "train/ant").mkdir()
    message = faults_of(root, 2)
    for part in ("train", "test"):
        assert f"{root / part / 'ant'}: the class has no images" in message


def test_stray_files_are_faults(root):
    for name in ("train/notes.txt", "test/cat/notes.txt"):
        (root / name).touch()
    (root / "test/dog/more.png").mkdir()
    message = faults_of(root, 3)
    for name in ("train/notes.txt", "test/cat/notes.txt", "test/dog/more.png"):
        assert str(root / name) in message


def test_a_size_is_chosen_for_pictures_of_different_sizes_or_large_ones(root, caplog):
    caplog.set_level("INFO")
    draw(root / "test/cat/wide.png", "red", (8, 9))
    assert folder.load(root).image_shape == (32, 32, 3)
    assert "8x6, 8x9 (height x width) are resized to 32x32; --image-size" in caplog.text
    assert folder.load(root, image_size=8).image_shape == (8, 8, 3)
    for path in root.glob("*/*/*.png"):
        draw(path, "blue", (150, 200))
    assert folder.load(root).image_shape == (150, 200, 3)
    for path in root.glob("*/*/*.png"):
        draw(path, "blue", (300, 150))
    assert folder.load(root).image_shape == (128, 128, 3)


def test_all_kinds_are_told_in_one_error_that_lists_ten(root):
    for i in range(9):
        (root / f"test/cat/bad{i}.png").write_text("not an image")
    draw(root / "test/dgo/0.png", "red", (8, 6))
    (root / "test/notes.txt").touch()
    (root / "train/notes.txt").touch()
    lines = faults_of(root, 12).splitlines()
    assert len(lines) == 1 + 10 + 1
    assert "notes.txt" in lines[1]
    assert "'dgo'" in lines[2]
    assert "notes.txt" in lines[3]
    assert f"{root / 'test/cat/bad0.png'}: not an image" in lines[4]
    assert lines[-1].strip() == "... and 2 more"


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({"image_size": 0}, "image_size"),
        ({"validation_share": 1.0}, "validation_share"),
        ({"channels": 2}, "channels"),
        ({"metric": "acuracy"}, "Did you mean 'accuracy'"),
    ],
)
def test_arguments_are_checked(root, options, name):
    with pytest.raises(ValueError, match=name):
        folder.load(root, **options)


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser may read anything"
)
def test_a_folder_that_may_not_be_read_is_not_passed_over(root):
    (root / "test/cat").chmod(0)
    try:
        for load in (folder.load, lambda data_dir: folder.unlabelled(data_dir, (8, 6, 3))):
            with pytest.raises(PermissionError, match="test/cat"):
                load(root)
    finally:
        (root / "test/cat").chmod(0o755)


def test_too_few_images_for_a_validation_split(tmp_path):
    fill(tmp_path, {"train/cat": 3, "train/dog": 3, "test/cat": 1, "test/dog": 1})
    with pytest.raises(
        ValueError, match=r"validation_share=0.1.*Give more images, or a split .validation"
    ):
        folder.load(tmp_path)


def test_loaders_import_without_tensorflow():
    code = (
        "import sys, kd_keras.data.folder, kd_keras.data.mhist\n"
        "assert 'tensorflow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
