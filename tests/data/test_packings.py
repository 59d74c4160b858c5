"""The same pictures in folders, archives, tables and sets of other libraries are the same task."""

import shutil
import sys
import tarfile
import zipfile

import numpy as np
import pandas as pd
import pytest
from photographs import photograph
from PIL import Image

from kd_keras import data
from kd_keras.data import arrays, listing, opening, table

CLASSES = ("cat", "dog", "eel")
COUNT = 20


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("KD_KERAS_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Photographs of several sizes, as JPEG and PNG files, in train and test."""
    root = tmp_path_factory.mktemp("data") / "photos"
    for number in range(3 * COUNT):
        part = "test" if number % 4 == 0 else "train"
        path = root / part / CLASSES[number % 3] / f"{number:02}.{'png' if number % 2 else 'jpg'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        photograph(48 + number % 5, 40, seed=number).save(path)
    return root


@pytest.fixture(scope="module")
def flat(folder):
    """The same pictures without partitions."""
    root = folder.with_name("flat")
    for path in folder.glob("*/*/*"):
        (root / path.parent.name).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, root / path.parent.name)
    return root


def listed(folder, *, parts=True):
    """A frame that lists the pictures, in an order of its own."""
    paths = sorted(folder.rglob("*.*"), key=lambda path: path.name[::-1])
    rows = {"image": [str(path.relative_to(folder)) for path in paths]}
    rows["label"] = [path.parent.name for path in paths]
    if parts:
        rows["split"] = [path.parents[1].name for path in paths]
    return pd.DataFrame(rows)


def same(one, other):
    """Whether two tasks are trained on in the same way."""
    assert one.fingerprint == other.fingerprint
    assert one.class_names == other.class_names
    assert one.image_shape == other.image_shape
    for part in ("train", "validation", "test"):
        ours, theirs = getattr(one, part), getattr(other, part)
        np.testing.assert_array_equal(ours.labels, theirs.labels)
        for mine, yours in zip(ours.files, theirs.files, strict=True):
            assert mine.read_bytes() == yours.read_bytes()


def zipped(folder, path, prefix=""):
    with zipfile.ZipFile(path, "w") as packed:
        for file in sorted(folder.rglob("*.*")):
            packed.write(file, prefix + file.relative_to(folder).as_posix())
    return path


def test_partitions_as_folder_archive_and_table(folder, tmp_path):
    task = data.load(data=folder)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [40, 5, 15]
    assert task.name == "photos"
    same(task, data.load(data=str(folder)))
    same(task, data.load("folder", data_dir=folder))
    same(task, data.load(data=zipped(folder, tmp_path / "photos.zip", "photos/")))
    same(task, data.load(data=zipped(folder, tmp_path / "b.zip")))
    with tarfile.open(tmp_path / "photos.tar.gz", "w:gz") as packed:
        packed.add(folder, "photos")
    packed = data.load(data=tmp_path / "photos.tar.gz")
    assert packed.name == "photos"
    same(task, packed)
    frame = listed(folder)
    same(task, data.from_table(frame, root=folder))
    same(task, data.load(data=frame, data_dir=folder))
    for ending in ("csv", "tsv", "parquet"):
        path = folder.with_name(f"list.{ending}")
        frame.assign(image="photos/" + frame["image"]).pipe(
            lambda rows, path=path, ending=ending: (
                rows.to_parquet(path)
                if ending == "parquet"
                else rows.to_csv(path, index=False, sep="\t" if ending == "tsv" else ",")
            )
        )
        same(task, data.load(data=path))


def test_flat_pictures_as_folder_archive_table_and_tfds(flat, tmp_path):
    import tensorflow_datasets as tfds

    task = data.load(data=flat)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [43, 5, 12]
    same(task, data.load(data=zipped(flat, tmp_path / "flat.zip")))
    frame = listed(flat, parts=False)
    same(task, data.load(data=frame, data_dir=flat))
    inside = tmp_path / "inside"
    shutil.copytree(flat, inside / "images")
    frame.to_csv(inside / "labels.csv", index=False)
    same(task, data.load(data=inside))
    shutil.copytree(flat, tmp_path / "one/train")
    same(task, data.load(data=tfds.ImageFolder(str(tmp_path / "one"))))
    same(task, data.load(data=tmp_path / "one"))


def test_partitions_of_tfds(folder):
    import tensorflow_datasets as tfds

    task, other = data.load(data=folder), data.load(data=tfds.ImageFolder(str(folder)))
    same(task, other)
    assert other.name == "image_folder"


def test_a_builder_of_tfds_is_found_by_its_name(folder, tmp_path):
    import tensorflow_datasets as tfds

    class KdKerasPets(tfds.core.GeneratorBasedBuilder):
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            features = {
                "picture": tfds.features.Image(shape=(None, None, 3)),
                "kind": tfds.features.ClassLabel(names=list(CLASSES)),
                "left": tfds.features.Scalar(np.bool_),
            }
            return tfds.core.DatasetInfo(
                builder=self, features=tfds.features.FeaturesDict(features)
            )

        def _split_generators(self, dl_manager):
            return {part: self._of(part) for part in ("train", "test")}

        def _of(self, part):
            for path in sorted((folder / part).glob("*/*")):
                yield path.name, {"picture": path, "kind": path.parent.name, "left": False}

        def _generate_examples(self):
            raise NotImplementedError

    KdKerasPets(data_dir=tmp_path / "tfds").download_and_prepare()
    found = data.load(data="tfds:kd_keras_pets", data_dir=tmp_path / "tfds")
    same(data.load(data=folder), found)
    assert found.name == "kd_keras_pets"
    again = data.load(data="tfds:kd_keras_pets", data_dir=tmp_path / "tfds")
    assert again.train.files == found.train.files
    with pytest.raises(ValueError, match=r"Did you mean 'kd_keras_pets'|Unknown set"):
        data.load(data="tfds:kd_keras_pet", data_dir=tmp_path / "tfds")
    with pytest.raises(ValueError, match=r"a feature that is the image .*picture \(Image\), kind"):
        data.load(data="tfds:kd_keras_pets", data_dir=tmp_path / "tfds", image="left")


def test_data_sets_of_hugging_face(folder, tmp_path):
    datasets = pytest.importorskip("datasets")
    sets = datasets.DatasetDict({
        part: datasets.Dataset.from_dict(
            {
                "image": [str(path) for path in sorted((folder / part).glob("*/*"))],
                "label": [path.parent.name for path in sorted((folder / part).glob("*/*"))],
            },
            features=datasets.Features(
                {"image": datasets.Image(), "label": datasets.ClassLabel(names=list(CLASSES))}
            ),
        )
        for part in ("train", "test")
    })  # fmt: skip
    task = data.load(data=folder)
    same(task, data.load(data=sets))
    sets.save_to_disk(tmp_path / "saved")
    same(task, data.load(data=f"hf:{tmp_path / 'saved'}"))


def test_arrays_are_split_like_files_and_are_the_same_whenever_they_come():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (90, 8, 6, 3), "uint8")
    y = np.array(CLASSES)[np.arange(90) % 3]
    task = arrays.from_arrays(x, y)
    assert task.class_names == CLASSES
    assert [len(s) for s in (task.train, task.validation, task.test)] == [64, 8, 18]
    turned = rng.permutation(90)
    again = arrays.from_arrays(x[turned], y[turned])
    assert again.fingerprint == task.fingerprint
    np.testing.assert_array_equal(again.train.images, task.train.images)
    by_number = arrays.from_arrays(x, np.arange(90) % 3, class_names=CLASSES)
    assert by_number.fingerprint == task.fingerprint
    grey = arrays.from_arrays(x[..., 0], y, image_size=4)
    assert grey.image_shape == (4, 4, 1)
    want = Image.fromarray(x[7, ..., 0]).resize((4, 4), Image.Resampling.BILINEAR, reducing_gap=2)
    splits = (grey.train, grey.validation, grey.test)
    assert any((np.asarray(want) == image[..., 0]).all() for s in splits for image in s.images)


def test_soft_labels_weights_and_votes_come_from_columns(flat, tmp_path):
    frame = listed(flat, parts=False).drop(columns="label")
    rng = np.random.default_rng(0)
    votes = rng.integers(0, 5, (len(frame), 3)) + np.eye(3, dtype=int)[np.arange(len(frame)) % 3]
    frame[list(CLASSES)], frame["weight"] = votes, np.arange(len(frame)) / 10
    frame.to_csv(tmp_path / "votes.csv", index=False)
    task = data.from_table(tmp_path / "votes.csv", label=CLASSES, root=flat)
    assert task.class_names == CLASSES
    assert task.test.weights is None
    by_name = dict(zip(frame["image"], zip(votes, frame["weight"], strict=True), strict=True))
    for row, file in enumerate(task.train.files):
        share, weight = by_name[str(file.relative_to(flat))]
        np.testing.assert_allclose(task.train.soft_labels[row], share / share.sum(), rtol=1e-6)
        assert task.train.weights[row] == np.float32(weight)


def test_groups_stand_on_one_side(flat):
    frame = listed(flat, parts=False)
    frame["patient"] = [f"p{number // 3}" for number in range(len(frame))]
    frame["label"] = [CLASSES[number // 3 % 2] for number in range(len(frame))]
    told = data.from_table(frame, root=flat, validation_share=0.2)
    assert "several images have the same 'patient'" in " ".join(told.odd)
    task = data.from_table(frame, root=flat, group="patient", validation_share=0.2)
    patient_of = dict(zip(frame["image"], frame["patient"], strict=True))
    sides = [
        {patient_of[str(file.relative_to(flat))] for file in split.files}
        for split in (task.train, task.validation, task.test)
    ]
    assert all(sides)
    assert sum(map(len, sides)) == len(set.union(*sides))
    frame["split"] = ["train", "test"] * (len(frame) // 2)
    torn = data.from_table(frame, root=flat, group="patient")
    assert "20 groups stand in several of the given splits (p0, p1, p10, ...)" in " ".join(torn.odd)


def test_whole_numbers_are_ordered_by_value(flat):
    frame = listed(flat, parts=False)
    frame["label"] = [2.0, 10.0, 1.0] * COUNT
    assert data.from_table(frame, root=flat).class_names == ("1", "2", "10")


# --- what is refused ---


def test_faults_of_a_table_are_told_at_once_with_their_rows(flat):
    frame = listed(flat)
    frame["split"] = "train"
    frame.loc[0, "image"] = "absent.png"
    frame.loc[1, "label"] = ""
    frame.loc[2, "split"] = "tset"
    frame["weight"] = 1.0
    frame.loc[3, "weight"] = -1.0
    frame["who"] = "a"
    frame.loc[4, "who"] = None
    with pytest.raises(ValueError, match=r"^5 faults in ") as error:
        data.from_table(frame, root=flat, group="who")
    told = str(error.value)
    assert "row 2: " in told
    assert "absent.png: the file is missing" in told
    assert "row 3: there is no class in column 'label'" in told
    assert "row 4: Unknown split 'tset'. Did you mean 'test'?" in told
    assert "row 5: the weight must be a finite number" in told
    assert "row 6: there is no group in column 'who'" in told


@pytest.mark.parametrize(
    ("change", "match"),
    [
        (lambda f: f.rename(columns={"label": "kind"}), "no column that is surely the label"),
        (lambda f: f.drop(index=f.index), "has no rows"),
        (lambda f: f.assign(label="cat"), r"at least two classes. Received: cat"),
    ],
)
def test_a_table_that_cannot_be_read_as_one(flat, change, match):
    with pytest.raises(ValueError, match=match):
        data.from_table(change(listed(flat)), root=flat)


def test_columns_are_named_with_the_nearest(flat):
    with pytest.raises(ValueError, match=r"label: Unknown column .* 'lable'. Did you mean 'label'"):
        data.from_table(listed(flat), root=flat, label="lable")


def test_data_of_no_known_kind(folder, tmp_path):
    (tmp_path / "notes.txt").write_text("no data")
    for given, kind, match in (
        (tmp_path / "absent", FileNotFoundError, "There is no .*absent.*a folder of images"),
        (tmp_path / "absent.zip", FileNotFoundError, "There is no archive"),
        (tmp_path / "notes.txt", ValueError, "is none of these: a folder of images"),
        (np.zeros((3, 8, 8, 3), "uint8"), ValueError, "from_arrays"),
    ):
        with pytest.raises(kind, match=match):
            data.load(data=given)
    with pytest.raises(ValueError, match=r"Unknown option of data: 'gruop'. Did you mean 'group'"):
        data.load(data=folder, gruop="x")
    with pytest.raises(ValueError, match=r"Only a table has such columns.*group='patient'"):
        data.load(data=folder, group="patient")
    import tensorflow_datasets as tfds

    with pytest.raises(ValueError, match=r"are a set of TensorFlow Datasets.*group='patient'"):
        data.load(data=tfds.ImageFolder(str(folder)), group="patient")
    with pytest.raises(ValueError, match="either the name of a task or `data`"):
        data.load("digits", data=folder)
    with pytest.raises(ValueError, match="either the name of a task or `data`"):
        data.load()


@pytest.mark.parametrize(
    ("x", "y", "options", "match"),
    [
        (np.zeros((4, 8, 8, 3)), [0, 1, 0, 1], {}, "raw pixels, uint8"),
        (np.zeros((4, 8, 8, 2), "uint8"), [0, 1, 0, 1], {}, "raw pixels, uint8"),
        (np.zeros((4, 8, 8), "uint8"), [0, 1], {}, "`labels` must have one entry per image"),
        (np.zeros((2, 8, 8), "uint8"), [0, 7], {"class_names": ("a", "b")}, "from 0 to 1"),
        (np.zeros((2, 8, 8), "uint8"), ["a", "c"], {"class_names": ("a", "b")}, "Unknown class"),
        (np.zeros((2, 8, 8), "uint8"), [0, 1], {"split": ["train", "tst"]}, "Unknown split"),
        (np.zeros((2, 8, 8), "uint8"), [0, 1], {"weight": [1.0, np.nan]}, "`weight` must hold"),
        (np.zeros((2, 8, 8), "uint8"), [[0.0, 0.0], [1, 0]], {}, "shares of the classes"),
        (np.zeros((0, 8, 8), "uint8"), [], {}, "Received: none"),
    ],
)
def test_arrays_are_checked(x, y, options, match):
    with pytest.raises(ValueError, match=match):
        arrays.from_arrays(x, y, **options)


def test_an_archive_that_leaves_its_folder_is_refused(folder, tmp_path):
    with tarfile.open(tmp_path / "evil.tar", "w") as packed:
        packed.add(folder / "train", "../train")
    with pytest.raises(ValueError, match="points outside the folder"):
        data.load(data=tmp_path / "evil.tar")
    (tmp_path / "torn.tar").write_bytes(b"not a tar")
    with pytest.raises(ValueError, match=r"torn\.tar is damaged or not an ordinary tar"):
        data.load(data=tmp_path / "torn.tar")


def test_without_hugging_faces_package_it_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r'pip install "kd_keras\[hf\]"'):
        data.load(data="hf:photos")


def test_odd_counts_are_told(flat):
    frame = listed(flat, parts=False)
    frame["label"] = ["cat"] * 55 + ["dog"] * 5
    task = data.from_table(frame, root=flat, validation_share=0.2)
    told = " ".join(task.odd)
    assert "of cat and 3 of dog: consider --class-weights" in told
    assert "test has 12 images: an accuracy of one half is known to ±0.25 only" in told
    assert repr(task).count("odd: ") == len(task.odd)


def test_names_mean_partitions_in_every_packing():
    for part, names in listing.NAMES.items():
        assert {listing.part_of(name.upper()) for name in names} == {part}
    assert set(opening.OPTIONS) >= {"image_size", "seed", "test_share"}
    assert ".csv" in table.SUFFIXES
