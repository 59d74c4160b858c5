"""Runs whose students learn on a transfer set without labels."""

import dataclasses

import numpy as np
import pytest
from PIL import Image
from tiny_runs import lines, tiny, trial

from kd_keras.config import SweepConfig
from kd_keras.data.munge import munge
from kd_keras.recipes import distill, setup, sweep, transfer
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.runs import RunFolder


@pytest.fixture(scope="module")
def unlabelled(tmp_path_factory):
    """A folder of 40 images, two deep, and something that is no image."""
    root = tmp_path_factory.mktemp("unlabelled")
    rng = np.random.default_rng(0)
    for number in range(40):
        folder = root / f"part{number % 2}"
        folder.mkdir(exist_ok=True)
        pixels = rng.integers(0, 256, (12, 12), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02}.png")
    (root / "README.txt").write_text("no image")
    return root


def compressed(folder, **changes):
    return tiny(folder, method="compression", epochs=2, teacher_epochs=1, **changes)


@pytest.mark.slow
def test_the_distilled_student_learns_on_made_up_images_and_the_others_on_labels(tmp_path):
    config = compressed(tmp_path, munge=2, limit=40)
    task = setup.open_task(config)
    with RunFolder(config, setup.digests(config, task)) as folder:
        students = transfer.task_of_students(config, task, folder.work)
        assert not students.train.labelled
        want = munge(task.train.images, copies=2, seed=config.split_seed)
        np.testing.assert_array_equal(students.train.images, want)
        assert students.fingerprint != task.fingerprint
        assert students.validation is task.validation
        made = (folder.work / transfer.MADE).stat().st_mtime_ns
        again = transfer.task_of_students(config, task, folder.work)  # as after a kill
        np.testing.assert_array_equal(again.train.images, want)
        assert (folder.work / transfer.MADE).stat().st_mtime_ns == made  # and not made anew
        trial = distill._Trial(config, task, 0, folder, Progress(show=False), students)
        trial.train()
        last = {line["model"]: set(line) for line in folder.lines()}
    assert "student_loss" not in last["distilled"]
    assert "distillation_loss" in last["distilled"]
    assert set(trial.models) == {"teacher", "alone", "distilled"}


def test_without_a_transfer_set_all_learn_on_the_training_images(tmp_path):
    config = compressed(tmp_path)
    task = setup.load_task(config)
    assert transfer.task_of_students(config, task, tmp_path) is task
    trial(config, task=task)  # by a method whose alpha is 0, labels are there and have no say
    last = [line for line in lines(config) if line["model"] == "distilled"][-1]
    assert last["loss"] == pytest.approx(last["distillation_loss"])


@pytest.mark.slow
def test_a_folder_without_labels_is_learned_from(tmp_path, unlabelled):
    config = compressed(tmp_path, transfer_dir=unlabelled)
    found = distill.run(config)
    assert (found["task"]["transfer"], found["task"]["train"]) == (40, 100)
    assert set(found["models"]) == {"teacher", "alone", "distilled"}
    # in a folder whose images are others, the run is another
    Image.fromarray(np.zeros((12, 12), "uint8")).save(unlabelled / "more.png")
    with pytest.raises(FileExistsError, match="digest of transfer set"):
        distill.run(config)


@pytest.mark.slow
def test_a_study_without_labels(tmp_path):
    config = tiny(tmp_path, munge=1, limit=40, epochs=1)
    names = {field.name for field in dataclasses.fields(SweepConfig)}
    shared = {name: value for name, value in vars(config).items() if name in names}
    study = SweepConfig(**shared, temperatures=(4.0,), alphas=(0.0,))
    found = sweep.run(study)
    assert found["task"]["transfer"] == 40
    with pytest.raises(ValueError, match="The transfer set has no labels"):
        sweep.run(dataclasses.replace(study, alphas=(0.0, 0.1)))


def test_classes_are_left_out_of_the_transfer_set_alone(tmp_path):
    config = compressed(tmp_path, transfer_without=("3", "5"))
    task = setup.open_task(config)
    students = transfer.task_of_students(config, task, tmp_path)
    kept = ~np.isin(task.train.labels, (3, 5))
    np.testing.assert_array_equal(students.train.images, task.train.images[kept])
    assert not students.train.labelled
    assert students.train.soft_labels is None
    assert (students.validation, students.test) == (task.validation, task.test)
    assert students.fingerprint != task.fingerprint
    other = transfer.task_of_students(
        dataclasses.replace(config, transfer_without=("3",)), task, tmp_path
    )
    assert other.fingerprint != students.fingerprint  # whose predictions are others


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"transfer_without": ("thre",)}, r"Unknown class in `transfer_without`: 'thre'"),
        ({"transfer_without": tuple("0123456789")}, r"leaves no training image"),
        (
            {"transfer_without": ("3",), "method": "kd", "alpha": 0.1},
            r"The transfer set has no labels",
        ),
    ],
)
def test_a_transfer_set_that_cannot_be_made_is_refused(tmp_path, changes, said):
    config = dataclasses.replace(compressed(tmp_path), **changes)
    with pytest.raises(ValueError, match=said):
        distill.run(config)
    assert not config.folder.exists()


def test_two_transfer_sets_are_refused(tmp_path):
    said = r"`transfer_without` and `munge` each name a transfer set.* give one of them"
    with pytest.raises(ValueError, match=said):
        compressed(tmp_path, transfer_without=("3",), munge=2)


@pytest.mark.parametrize("without_validation", [False, True])
def test_the_images_beyond_a_limit_join_the_transfer_set(tmp_path, without_validation):
    whole = setup.open_task(compressed(tmp_path, limit=None))
    how = {"limit": None, "train_limit": 100, "transfer_rest": True}
    config = compressed(tmp_path, **how, without_validation=without_validation)
    task = setup.open_task(config)
    students = transfer.task_of_students(config, task, tmp_path)
    assert len(task.train) + len(task.validation) == 100
    assert not students.train.labelled
    # validation stays out, also if the teacher learns on the few images of its own
    added = 20 if without_validation else 0
    assert len(students.train) == len(whole.train) + added
    rows = {image.tobytes() for image in np.asarray(students.train.images)}
    assert rows >= {image.tobytes() for image in np.asarray(whole.train.images)}
    assert students.fingerprint != task.fingerprint


def test_the_rest_of_what_is_not_limited_is_refused(tmp_path):
    with pytest.raises(ValueError, match="there is no `train_limit`: give one"):
        compressed(tmp_path, transfer_rest=True)


@pytest.mark.parametrize(
    ("files", "said"), [((), "holds no image"), (("broken.png",), "1 fault in")]
)
def test_a_folder_that_is_none_is_refused(tmp_path, files, said):
    empty = tmp_path / "images"
    empty.mkdir()
    for name in files:
        (empty / name).write_bytes(b"no image")
    config = compressed(tmp_path, transfer_dir=empty)
    with pytest.raises(ValueError, match=said):
        distill.run(config)
    assert not config.folder.exists()


def test_more_made_up_images_than_memory_holds_are_refused(tmp_path):
    config = compressed(tmp_path, munge=10**9)
    with pytest.raises(ValueError, match=r"`munge`=1000000000 makes .* more than a quarter"):
        distill.run(config)
    assert not config.folder.exists()
