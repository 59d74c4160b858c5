"""The page about data: counts by class and split, what is odd, channels, and sample pictures."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from kd_keras.data import images
from kd_keras.data.task import UNKNOWN, Split, Task, shown_name, size_text
from kd_keras.report import html
from kd_keras.utils.files import whole_file

SAMPLED = 1_000  # images of which the channels' statistics are made
CLASSES_SHOWN = 20
PER_CLASS = 8


def channels(split: Split, count: int = SAMPLED) -> list[dict[str, float]]:
    """Return mean and standard deviation of each channel, from 0 to 255, over evenly taken images.

    Args:
        split: the images.
        count: the number of images to take at most.
    """
    pixels = _pixels(split, np.linspace(0, len(split) - 1, min(count, len(split))).astype(int))
    flat = pixels.reshape(-1, pixels.shape[-1])
    return [
        {"mean": float(mean), "std": float(std)}
        for mean, std in zip(flat.mean(axis=0), flat.std(axis=0), strict=True)
    ]


def facts(task: Task) -> dict[str, Any]:
    """Return what is known of a task's data, for JSON."""
    splits = {"train": task.train, "validation": task.validation, "test": task.test}
    counts = {
        name: np.bincount(split.labels[split.labels != UNKNOWN], minlength=task.classes).tolist()
        for name, split in splits.items()
    }
    return {
        "name": task.name,
        "fingerprint": task.fingerprint,
        "image_shape": list(task.image_shape),
        "class_names": list(task.class_names),
        "metric": task.metric,
        "images": {name: len(split) for name, split in splits.items()},
        "images_by_class": counts,
        "channels": channels(task.train),
        "odd": list(task.odd),
    }


def build(task: Task, out: str | os.PathLike[str]) -> Path:
    """Write the page about a task's data, and return its path.

    Args:
        task: the task.
        out: the HTML file to write; one that this library made is replaced.

    Raises:
        FileExistsError: if `out` is a file that this library has not made, or a folder.
    """
    target = Path(out)
    if target.exists() and not _is_ours(target):
        raise FileExistsError(f"`out` is something that is not such a page: {target}")
    found = facts(task)
    target.parent.mkdir(parents=True, exist_ok=True)
    with whole_file(target) as path:
        path.write_text(html.document(f"{task.name}: data", _sections(task, found)), "utf-8")
    return target


def _is_ours(path: Path) -> bool:
    return path.is_file() and html.MADE_BY in path.read_text(encoding="utf-8", errors="replace")


def _sections(task: Task, found: dict[str, Any]) -> Iterator[str]:
    total = sum(found["images"].values())
    yield html.heading(f"{task.name}: data", level=1)
    yield html.paragraph(
        f"{total:,} images in {task.classes} classes, {size_text(task.image_shape)} (height x "
        f"width x channels) as the models get them; the best epoch is chosen by {task.metric}.",
        "about",
    )
    for sentence in task.odd:
        yield html.paragraph(sentence, "verdict none")
    yield html.heading("Images by class and split")
    by_class = found["images_by_class"]
    yield html.table([
        ["", *by_class, "share"],
        *(
            [name, *(f"{each[k]:,}" for each in by_class.values()), _share(by_class, k, total)]
            for k, name in enumerate(map(images.shown, task.class_names))
        ),
        ["all", *(f"{count:,}" for count in found["images"].values()), "100 %"],
    ])  # fmt: skip
    yield html.heading("Channels")
    names = ["grey"] if task.image_shape[2] == 1 else ["red", "green", "blue"]
    yield html.table([
        ["", "mean", "standard deviation"],
        *(
            [name, f"{own['mean']:.1f}", f"{own['std']:.1f}"]
            for name, own in zip(names, found["channels"], strict=True)
        ),
    ])  # fmt: skip
    yield html.paragraph(f"From 0 to 255, over at most {SAMPLED:,} images of train.", "about")
    yield html.heading("Examples of train")
    yield html.figure(samples(task), "Images of train by class, as the models get them.")


def _share(by_class: dict[str, list[int]], number: int, total: int) -> str:
    return f"{100 * sum(each[number] for each in by_class.values()) / max(total, 1):.1f} %"


def samples(task: Task) -> Figure:
    """Draw the first images of each class of train, a row per class."""
    shown = range(min(task.classes, CLASSES_SHOWN))
    figure = Figure(figsize=(1.1 * PER_CLASS + 1.2, 1.15 * len(shown)), layout="constrained")
    axes = figure.subplots(len(shown), PER_CLASS, squeeze=False)
    for number in shown:
        rows = np.flatnonzero(task.train.labels == number)[:PER_CLASS]
        pixels = _pixels(task.train, rows)
        for place, ax in enumerate(axes[number]):
            ax.set_axis_off()
            if place < len(pixels):
                ax.imshow(pixels[place], cmap="gray", vmin=0, vmax=255)
        name = shown_name(images.shown(task.class_names[number]))
        axes[number][0].text(
            -0.1, 0.5, name, transform=axes[number][0].transAxes, ha="right", va="center"
        )
    return figure


def _pixels(split: Split, rows: np.ndarray) -> np.ndarray:
    return np.asarray(images.pixels_of(split.rows(rows)))
