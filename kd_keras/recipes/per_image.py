"""Predictions of all models for each test image, as CSV and Parquet; the oddest as pictures."""

import dataclasses
import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from kd_keras.data import images
from kd_keras.data.task import Task
from kd_keras.recipes.predictions import Predictions
from kd_keras.utils.files import whole_file, whole_folder

log = logging.getLogger(__name__)

CSV, PARQUET = "predictions.csv", "predictions.parquet"
THUMBNAILS = "thumbnails"  # folder of the pictures
EACH = 12  # pictures, at most, of each kind
SIDE = 96  # pixels of a thumbnail's longer side, at most


def names_of(task: Task) -> tuple[str, ...]:
    """Return the names of the test images: of their files, or else their indices in the split."""
    return task.test.names or tuple(map(str, range(len(task.test))))


def columns(kept: Predictions, names: Sequence[str]) -> dict[str, Any]:
    """Return the table: `image`, `label`, and three columns per role.

    `ROLE_predicted` is the class of the highest mean probability over the seeds,
    `ROLE_probability` that probability, and `ROLE_probability_of_label` the mean probability of the
    right class.

    Args:
        kept: the predictions of all models.
        names: of the test images.
    """
    labels, classes = kept.task.test.labels, np.array(kept.task.class_names, object)
    found: dict[str, Any] = {"image": list(names), "label": classes[labels]}
    for role in kept.roles:
        means = kept.means(role)
        predicted = means.argmax(axis=1)
        rows = np.arange(len(means))
        found[f"{role}_predicted"] = classes[predicted]
        found[f"{role}_probability"] = means[rows, predicted]
        found[f"{role}_probability_of_label"] = means[rows, labels]
    return found


def write_tables(kept: Predictions, names: Sequence[str], folder: Path) -> None:
    """Write `predictions.csv` and `predictions.parquet`, each whole or not at all.

    Args:
        kept: the predictions of all models.
        names: of the test images.
        folder: the run folder.
    """
    import pandas as pd  # takes half a second

    table = pd.DataFrame(columns(kept, names))
    with whole_file(folder / CSV) as path:
        table.to_csv(path, index=False, float_format="%.6g")
    with whole_file(folder / PARQUET) as path:
        table.to_parquet(path, index=False)


# --- pictures ---


@dataclasses.dataclass(frozen=True)
class Odd:
    """Rows of test images that deserve a look, the oddest first.

    Attributes:
        errors: images that the student has wrong, by its probability of the right class.
        disagreements: other images for which it predicts another class than the teacher, by the
            product of the probabilities that the two give their own class.
    """

    errors: np.ndarray
    disagreements: np.ndarray

    @classmethod
    def of(
        cls, labels: np.ndarray, student: np.ndarray, teacher: np.ndarray | None, each: int = EACH
    ) -> "Odd":
        """Choose at most `each` images of each kind.

        Args:
            labels: class numbers, shape `(n,)`.
            student, teacher: mean probabilities, shape `(n, classes)`; no teacher, no disagreement.
            each: the number of images of each kind, at most.

        Example:
            >>> student = np.array([[0.9, 0.1], [0.2, 0.8], [0.6, 0.4]])
            >>> found = Odd.of(np.array([1, 1, 1]), student, student[:, ::-1], each=1)
            >>> found.errors, found.disagreements
            (array([0]), array([1]))
        """
        rows, ours = np.arange(len(labels)), student.argmax(axis=1)
        wrong = rows[ours != labels]
        errors = wrong[student[wrong, labels[wrong]].argsort(kind="stable")][:each]
        if teacher is None:
            return cls(errors, rows[:0])
        theirs = teacher.argmax(axis=1)
        other = np.setdiff1d(rows[ours != theirs], errors)
        sure = student[other, ours[other]] * teacher[other, theirs[other]]
        return cls(errors, other[(-sure).argsort(kind="stable")][:each])


def write_pictures(
    kept: Predictions, names: Sequence[str], student: str, folder: Path
) -> dict[str, Any]:
    """Write the worst errors and the disagreements as small PNG files.

    Args:
        kept: the predictions of all models.
        names: of the test images.
        student: the role that is looked at; `"teacher"` is the other, if it was kept.
        folder: the run folder; the pictures are in `thumbnails/` there.

    Returns:
        The entry in `results.json`: `student`, and `errors` and `disagreements`, each a list of
        `file` (below the run folder), `image` (its name), `label`, and `predicted`: by role the
        class and its mean probability over the seeds.
    """
    labels, taught = kept.task.test.labels, "teacher" in kept.roles and student != "teacher"
    means = {student: kept.means(student)} | ({"teacher": kept.means("teacher")} if taught else {})
    odd = Odd.of(labels, means[student], means.get("teacher"))
    kinds = {"errors": odd.errors, "disagreements": odd.disagreements}
    chosen = np.concatenate(list(kinds.values()))
    pixels = dict(zip(chosen.tolist(), images.pixels_of(kept.task.test.rows(chosen)), strict=True))
    classes = list(map(str, kept.task.class_names))

    def entry(kind: str, place: int, row: int) -> dict[str, Any]:
        return {
            "file": f"{THUMBNAILS}/{kind}-{place:02}.png",
            "image": names[row],
            "label": classes[labels[row]],
            "predicted": {
                role: [classes[own[row].argmax()], float(own[row].max())]
                for role, own in means.items()
            },
        }

    with whole_folder(folder / THUMBNAILS) as pictures:
        found = {}
        for kind, rows in kinds.items():
            found[kind] = [entry(kind, place, row) for place, row in enumerate(rows.tolist(), 1)]
            for made, row in zip(found[kind], rows.tolist(), strict=True):
                _thumbnail(pixels[row]).save(pictures / Path(made["file"]).name)
    return {"student": student, **found}


def _thumbnail(pixels: np.ndarray) -> Image.Image:
    """Return an image as the model gets it, made smaller if it is large."""
    picture = Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)
    picture.thumbnail((SIDE, SIDE))
    return picture
