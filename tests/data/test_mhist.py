"""MHIST: a small folder of the official layout, broken in one way at a time."""

import csv
import os
import shutil
import warnings
import zipfile

import numpy as np
import pytest
from PIL import Image

from kd_keras.data import images, mhist

pytestmark = pytest.mark.filterwarnings(
    # the drawn folder is smaller than MHIST; its own test below expects the warning
    "ignore:.*is not the official MHIST"
)

HEADER = list(mhist.COLUMNS)


def annotations():
    """Rows of 30 training and 8 test images; 4 in 6 are HP, with every count of votes."""
    rows = []
    for i in range(38):
        votes = i % 6 + (i % 6 > 3) if i < 30 else (0, 3, 4, 7)[i % 4]
        label = "SSA" if votes >= 4 else "HP"
        rows.append([f"MHIST_{i:03}.png", label, str(votes), "train" if i < 30 else "test"])
    return rows


def write_csv(root, rows, header=HEADER):
    with (root / "annotations.csv").open("w", newline="") as file:
        csv.writer(file).writerows([header, *rows])


def draw(path, number, size=(224, 224)):
    Image.new("RGB", size[::-1], (number, 0, 255 - number)).save(path)


@pytest.fixture
def rows():
    return annotations()


@pytest.fixture
def root(tmp_path, rows):
    root = tmp_path / "mhist"
    (root / "images").mkdir(parents=True)
    for i, row in enumerate(rows):
        draw(root / "images" / row[0], i)
    write_csv(root, rows)
    return root


def pack(root, prefix="images/"):
    """Replace the folder of images by images.zip."""
    with zipfile.ZipFile(root / "images.zip", "w") as archive:
        for path in sorted((root / "images").iterdir()):
            archive.write(path, prefix + path.name)
    shutil.rmtree(root / "images")
    return root / "images.zip"


def faults_of(root, count):
    with pytest.raises(ValueError, match=rf"^{count} faults? in .*annotations\.csv\n") as error:
        mhist.load(root)
    return str(error.value)


def votes_of(split, rows):
    by_name = {row[0]: int(row[2]) for row in rows}
    return np.array([by_name[path.name] for path in split.files])


# --- what is loaded ---


def test_keeps_the_official_partition_and_the_labels(root, rows):
    task = mhist.load(root)
    assert (task.name, task.class_names, task.metric) == ("mhist", ("HP", "SSA"), "auc")
    assert task.image_shape == (224, 224, 3)
    assert [len(s) for s in (task.train, task.validation, task.test)] == [24, 6, 8]
    assert [path.name for path in task.test.files] == [row[0] for row in rows[30:]]
    for split in (task.train, task.validation, task.test):
        assert split.labels.dtype == np.int32
        np.testing.assert_array_equal(split.labels, votes_of(split, rows) >= 4)
        assert split.images is split.soft_labels is split.weights is None
    learnt = {path.name for split in (task.train, task.validation) for path in split.files}
    assert learnt == {row[0] for row in rows[:30]}


def test_validation_is_stratified_and_follows_the_seed(root):
    task = mhist.load(root)
    assert np.bincount(task.validation.labels).tolist() == [4, 2]
    again, other = (mhist.load(root, seed=seed) for seed in (0, 1))
    assert again.validation.files == task.validation.files
    assert other.validation.files != task.validation.files
    assert other.test.files == task.test.files
    assert len(mhist.load(root, validation_share=0.5).validation) == 15


def test_class_weights_balance_the_training_split(root):
    task = mhist.load(root)
    # 16 HP and 8 SSA: 24 / (2 * 16) and 24 / (2 * 8)
    assert task.class_weight == pytest.approx({0: 0.75, 1: 1.5})


def test_soft_labels_are_the_shares_of_the_votes(root, rows):
    task = mhist.load(root, soft_labels=True)
    for split in (task.train, task.validation, task.test):
        votes = votes_of(split, rows)
        assert split.soft_labels.dtype == np.float32
        np.testing.assert_allclose(split.soft_labels[:, 1], votes / 7, rtol=1e-6)
        np.testing.assert_allclose(split.soft_labels.sum(1), 1, rtol=1e-6)
        np.testing.assert_array_equal(split.soft_labels.argmax(1), split.labels)


def test_vote_weights_are_the_agreement_with_a_mean_of_one_in_training(root, rows):
    task = mhist.load(root, vote_weights=True)
    weights, votes = task.train.weights, votes_of(task.train, rows)
    assert weights.dtype == np.float32
    assert weights.mean() == pytest.approx(1, rel=1e-6)
    # 0 votes: all of one mind, 7/7; 3 votes: 1/7
    ratio = weights[votes == 0].mean() / weights[votes == 3].mean()
    assert ratio == pytest.approx(7, rel=1e-5)
    assert task.validation.weights is None
    assert task.test.weights is None


def test_pixels_are_those_on_disk_and_are_resized_on_request(root):
    native = images.in_memory(mhist.load(root).test)
    np.testing.assert_array_equal(native.images[3], np.full((224, 224, 3), (33, 0, 222)))
    small = mhist.load(root, image_size=32)
    assert small.image_shape == (32, 32, 3)
    got = images.in_memory(small.test).images
    np.testing.assert_array_equal(got, np.array(native.images[:, :32, :32]))


def test_warns_of_other_counts_with_both(root):
    with pytest.warns(UserWarning, match="not the official MHIST") as record:
        mhist.load(root)
    (message,) = (str(warning.message) for warning in record)
    assert "train has 20 HP + 10 SSA, officially 1545 HP + 630 SSA" in message
    assert "test has 4 HP + 4 SSA, officially 617 HP + 360 SSA" in message
    assert record[0].filename == __file__


def test_the_official_counts_pass_without_a_warning(root, monkeypatch):
    counts = {"train": {"HP": 20, "SSA": 10}, "test": {"HP": 4, "SSA": 4}}
    monkeypatch.setattr(mhist, "OFFICIAL_COUNTS", counts)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        mhist.load(root)


def test_fingerprint_follows_content_and_options_not_the_place(root, rows):
    first = mhist.load(root).fingerprint
    root = root.rename(root.parent / "moved")
    assert mhist.load(root).fingerprint == first
    options = ({"seed": 1}, {"image_size": 32}, {"soft_labels": True}, {"vote_weights": True})
    assert len({first, *(mhist.load(root, **option).fingerprint for option in options)}) == 5
    draw(root / "images" / rows[0][0], 99)
    second = mhist.load(root).fingerprint
    assert second != first
    rows[0][2] = "1"  # another vote, the same label
    write_csv(root, rows)
    assert mhist.load(root).fingerprint not in (first, second)


# --- where the files may lie ---


def test_a_nested_folder_of_images(root):
    fingerprint = mhist.load(root).fingerprint
    (root / "images").rename(root / "inner")
    (root / "images/__MACOSX").mkdir(parents=True)
    (root / "images/__MACOSX/._MHIST_000.png").touch()
    (root / "inner").rename(root / "images/images")
    assert mhist.load(root).fingerprint == fingerprint


@pytest.mark.parametrize("beside", [True, False])
def test_the_csv_in_a_sub_folder(root, tmp_path, beside):
    outer = tmp_path / "outer"
    outer.mkdir()
    root.rename(outer / "MHIST")
    if not beside:
        (outer / "MHIST/images").rename(outer / "images")
    assert len(mhist.load(outer).test) == 8


@pytest.mark.parametrize("prefix", ["images/", "", "MHIST/images/"])
def test_the_zip_is_unpacked_once(root, prefix):
    fingerprint = mhist.load(root).fingerprint
    archive = pack(root, prefix)
    assert mhist.load(root).fingerprint == fingerprint
    archive.write_bytes(b"no longer needed")
    assert mhist.load(root).fingerprint == fingerprint
    assert sorted(path.name for path in root.iterdir()) == [
        "annotations.csv",
        "images",
        "images.zip",
    ]


@pytest.mark.parametrize(
    "name",
    ["../evil.png", "/evil.png", "images/../../evil.png", "..\\e.png", "C:evil.png", "C:\\e.png"],
)
def test_a_zip_that_leaves_its_folder_is_refused_whole(root, name):
    archive = pack(root)
    with zipfile.ZipFile(archive, "a") as packed:
        packed.writestr(name, b"evil")
    with pytest.raises(
        ValueError, match=r"^1 fault in .*images\.zip\n.*points outside the folder"
    ) as error:
        mhist.load(root)
    assert repr(name) in str(error.value)
    assert sorted(os.listdir(root)) == ["annotations.csv", "images.zip"]
    assert not (root.parent / "evil.png").exists()


def test_a_damaged_zip_leaves_nothing_behind(root):
    archive = pack(root)
    whole = archive.read_bytes()
    middle = whole[:500] + bytes(50) + whole[550:]
    for damaged in (whole[:-100], middle, b"not a zip"):
        archive.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"images\.zip is damaged"):
            mhist.load(root)
        assert sorted(os.listdir(root)) == ["annotations.csv", "images.zip"]


@pytest.mark.skipif(
    os.name != "posix" or os.geteuid() == 0, reason="the superuser may write anywhere"
)
def test_a_zip_in_a_folder_that_cannot_be_written(root):
    pack(root)
    root.chmod(0o555)
    try:
        with pytest.raises(OSError, match=r"cannot be unpacked to.*writable"):
            mhist.load(root)
    finally:
        root.chmod(0o755)


def test_a_full_disk_while_unpacking_is_told(root, monkeypatch):
    pack(root)

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(zipfile.ZipFile, "extractall", full)
    with pytest.raises(OSError, match=r"cannot be unpacked .*No space left.*unpack the archive to"):
        mhist.load(root)
    assert sorted(os.listdir(root)) == ["annotations.csv", "images.zip"]


def test_a_missing_folder_says_what_mhist_is_and_where_to_get_it(tmp_path):
    for path in (None, tmp_path / "absent", tmp_path):
        with pytest.raises(FileNotFoundError, match=r"https://bmirds\.github\.io/MHIST/") as error:
            mhist.load(path)
        for word in ("colorectal", "annotations.csv", "images.zip", "data_dir"):
            assert word in str(error.value)


def test_missing_images_say_where_they_go(root):
    shutil.rmtree(root / "images")
    with pytest.raises(FileNotFoundError, match=r"no PNG images in .*images.*MHIST"):
        mhist.load(root)
    (root / "images").mkdir()
    with pytest.raises(FileNotFoundError, match=r"no PNG images in .*images.*MHIST"):
        mhist.load(root)


def test_two_data_sets_in_one_folder_are_refused(root):
    for name in ("a", "b"):
        (root.parent / name).mkdir()
        shutil.copy(root / "annotations.csv", root.parent / name)
    with pytest.raises(ValueError, match=r"several files annotations\.csv"):
        mhist.load(root.parent)


# --- annotations that are broken, in one way at a time ---


def test_a_missing_column_is_named_beside_those_there(root, rows):
    write_csv(root, [row[:3] for row in rows], [*HEADER[:3]])
    with pytest.raises(ValueError, match=r"lacks the column 'Partition'\. It has: 'Image Name', "):
        mhist.load(root)


@pytest.mark.parametrize("text", ["", 'a,b\n"c,d\n', "a,b\n1,2,3\n4,5,6,7\n", "a\n\udcff\n"])
def test_a_file_that_is_no_table(root, text):
    (root / "annotations.csv").write_bytes(text.encode(errors="surrogateescape"))
    with pytest.raises(ValueError, match=r"annotations\.csv is not a CSV table"):
        mhist.load(root)


def test_rows_longer_than_the_header_are_not_shifted(root, rows):
    write_csv(root, [["extra", *row] for row in rows])
    with pytest.raises(ValueError, match="more fields than"):
        mhist.load(root)


def test_blank_lines_spaces_and_a_byte_order_mark_do_no_harm(root, rows):
    path = root / "annotations.csv"
    expected = mhist.load(root).test.labels
    lines = path.read_text().replace(",", " , ").splitlines()
    path.write_text("\n\n".join(lines) + "\n\n", encoding="utf-8-sig")
    np.testing.assert_array_equal(mhist.load(root).test.labels, expected)


@pytest.mark.parametrize(
    ("column", "value", "said"),
    [
        (1, "SAA", "Unknown label 'SAA'. Did you mean 'SSA'? Known: HP, SSA."),
        (1, "", "Unknown label ''"),
        (3, "Train", "Unknown partition 'Train'. Did you mean 'train'?"),
        (2, "8", "whole number from 0 to 7. Received: '8'"),
        (2, "-1", "whole number from 0 to 7. Received: '-1'"),
        (2, "2.0", "whole number from 0 to 7. Received: '2.0'"),
        (2, "", "whole number from 0 to 7. Received: ''"),
        (2, "4", "4 of 7 votes for SSA contradict the label HP"),
        (1, "SSA", "1 of 7 votes for SSA contradict the label SSA"),
        (0, "../MHIST_001.png", "without a path"),
        (0, "/MHIST_001.png", "without a path"),
        (0, "a/MHIST_001.png", "without a path"),
        (0, "..\\MHIST_001.png", "without a path"),
        (0, "..", "without a path"),
        (0, "", "name is empty"),
        (0, "MHIST_000.png", "is already in row 2"),
    ],
)
def test_a_faulty_row_is_named_by_line_and_image(root, rows, column, value, said):
    rows[1][column] = value
    write_csv(root, rows)
    message = faults_of(root, 1)
    assert f"row 3: {rows[1][0]!r}: " in message
    assert said in message


def test_the_row_is_the_line_of_the_file_after_blank_lines(root, rows):
    rows[1][1] = "?"
    write_csv(root, [rows[0], [], [], *rows[1:]])
    assert "row 5: 'MHIST_001.png'" in faults_of(root, 1)


def damage_missing(path):
    path.unlink()


def damage_unreadable(path):
    path.write_text("not an image")


def damage_truncated(path):
    path.write_bytes(path.read_bytes()[:-40])


def damage_size(path):
    draw(path, 1, size=(224, 223))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damage_missing, "the file is missing"),
        (damage_unreadable, "not an image"),
        (damage_truncated, "cannot be read"),
        (damage_size, "224x223, expected 224x224"),
    ],
)
def test_a_faulty_image_is_named_by_line_and_file(root, rows, damage, said):
    path = root / "images" / rows[4][0]
    damage(path)
    message = faults_of(root, 1)
    assert f"row 6: {path}: " in message
    assert said in message


def test_an_empty_partition_and_a_missing_class(root, rows):
    write_csv(root, rows[:30])
    assert "the partition test is empty" in faults_of(root, 1)
    write_csv(root, rows[:30] + [row for row in rows[30:] if row[1] == "HP"])
    assert "the partition test has 0 images of class SSA" in faults_of(root, 1)
    ssa = [row for row in rows[:30] if row[1] == "SSA"]
    write_csv(root, [row for row in rows if row not in ssa[1:]])
    assert "the partition train has 1 images of class SSA, but needs 2" in faults_of(root, 1)
    write_csv(root, [])
    assert "the partition train is empty" in faults_of(root, 2)


def test_all_kinds_are_told_in_one_error(root, rows):
    (root / "images" / rows[5][0]).unlink()
    damage_size(root / "images" / rows[6][0])
    rows[0][1], rows[0][2] = "?", "?"
    rows[1][3] = "validation"
    rows[2][0] = "../x.png"
    rows[3][0] = rows[4][0]
    write_csv(root, rows)
    lines = [line.strip() for line in faults_of(root, 7).splitlines()[1:]]
    for line, (row, said) in zip(
        lines,
        [
            (2, "Unknown label '?'"),
            (2, "whole number from 0 to 7"),
            (3, "Unknown partition 'validation'"),
            (4, "'../x.png': an image must be named by its bare file name"),
            (6, "is already in row 5"),
            (7, f"{rows[5][0]}: the file is missing"),
            (8, f"{rows[6][0]}: the image is 224x223"),
        ],
        strict=True,
    ):
        assert line.startswith(f"row {row}: ")
        assert said in line


def test_of_many_faults_ten_are_listed_and_all_are_counted(root, rows):
    for row in rows[:12]:
        row[1] = "?"
    (root / "images" / rows[20][0]).unlink()
    write_csv(root, rows)
    lines = faults_of(root, 13).splitlines()
    assert [line.split(":")[0].strip() for line in lines[1:-1]] == [
        f"row {i}" for i in range(2, 12)
    ]
    assert lines[-1].strip() == "... and 3 more"


@pytest.mark.parametrize(
    "option", [{"image_size": 0}, {"image_size": "96"}, {"validation_share": 0.0}]
)
def test_arguments_are_checked(root, option):
    with pytest.raises(ValueError, match=next(iter(option))):
        mhist.load(root, **option)


def test_as_data_of_ones_own_it_takes_its_own_options_alone(root):
    from kd_keras import data

    assert (
        data.load(data=root, image_size=32).fingerprint
        == mhist.load(root, image_size=32).fingerprint
    )
    with pytest.raises(ValueError, match=r"MHIST, whose options are .*test_share=0.3"):
        data.load(data=root, test_share=0.3)
