"""The page about what the models of a run look at: a panel of maps, and how alike they are."""

import csv
import dataclasses
import json
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from kd_keras.data.images import shown
from kd_keras.data.task import UNKNOWN, shown_name
from kd_keras.evaluation.explain import Explanation
from kd_keras.recipes.explaining import Found
from kd_keras.recipes.runs import EXPLAIN
from kd_keras.report import html
from kd_keras.report.tables import aligned, between
from kd_keras.utils.files import whole_folder

SIDE = 1.45  # inches of a picture
COLOURS = colormaps["plasma"]  # of a map, from low to high; it also works in shades of grey
OPAQUE = 0.8  # how much a map's maximum hides of the image
WRONG = "#a8480b"
ABOUT = (
    "Each row is a test image; on it lies the map of each model, for the class that the model "
    "predicts, with its probability. Bright places matter most; the maximum of each map has the "
    "same colour, however strong it is."
)
ABOUT_LABEL = (
    "Each row is a test image; on it lies the map of each model for the image's own class. Above "
    "it stands what the model predicts, with its probability. Bright places matter most; the "
    "maximum of each map has the same colour, however strong it is."
)
CAUTION = (
    "A map shows which places a logit depends on, not why. The numbers are means over the images "
    "with 95 % intervals over the images; each model is that of one seed, so that they leave out "
    "the spread over seeds."
)
DISAGREE = (
    "Teacher and distilled student disagree on {shown} of the {count} images that are shown, and "
    "on {every} of all {total}, which the numbers are taken over."
)


def check_target(out: str | os.PathLike[str]) -> None:
    """Raise `FileExistsError` for a file, or a folder that is not such a page's."""
    html.check_folder(Path(out))


def build(found: Found, out: str | os.PathLike[str]) -> Path:
    """Write the page and its files, whole or not at all.

    Args:
        found: what `recipes.explaining.run` returns.
        out: the folder to write: `index.html`, `panel.png`, `images.csv` (a line per image) and
            `explain.json`. Earlier ones there are replaced; files of other names stay.

    Returns:
        The path of the page.

    Raises:
        FileExistsError: `out` is a file, or a folder that holds something else.
    """
    target = Path(out)
    check_target(target)
    with whole_folder(target, ours=EXPLAIN) as folder:
        panel(found).savefig(folder / "panel.png", dpi=130)
        _write_table(found, folder / "images.csv")
        text = json.dumps(facts(found), indent=2) + "\n"
        (folder / "explain.json").write_text(text, encoding="utf-8")
        page = html.document(_title(found), _sections(found, folder))
        (folder / "index.html").write_text(page, encoding="utf-8")
    return target / "index.html"


def facts(found: Found) -> dict[str, Any]:
    """Return the numbers and how they were made, for JSON."""
    return {
        "run": str(found.run),
        "task": found.task_name,
        "settings": dataclasses.asdict(found.config),
        "images": len(found.names),
        "shown": [found.names[place] for place in found.shown],
        "models": {
            role: {
                "method": own.method,
                "tap": own.tap,
                "empty": found.numbers[role]["empty"],
                "similarity_to_teacher": _without_images(found.numbers[role]["similarity"]),
                "pointing": _without_images(found.numbers[role]["pointing"]),
            }
            for role, own in found.models.items()
        },
        "distilled_more_similar_by": found.more_similar,
        "sentences": sentences(found),
    }


def _without_images(measured: Mapping[str, Any] | None) -> dict[str, Any] | None:
    if measured is None:
        return None
    return {name: value for name, value in measured.items() if name != "by_image"}


def sentences(found: Found) -> list[str]:
    """Return what was found, how, and what was left out, in sentences."""
    said = _on_similarity(found)
    points = [own["pointing"] for own in found.numbers.values() if own["pointing"] is not None]
    if points and points[0]["chance"] is not None:
        said.append(
            "Pointing: the share of images whose map has its maximum on the drawing. A place drawn "
            f"at random lies there in {points[0]['chance']:.3f} of cases."
        )
    for role, own in found.numbers.items():
        if own["empty"]:
            said.append(
                f"{own['empty']} of {len(found.names)} maps of {role} are zero everywhere: they "
                "have no correlation with others, and point nowhere."
            )
    return [*said, *found.notes]


def _on_similarity(found: Found) -> list[str]:
    """Return a sentence on how much more the distilled student's maps resemble the teacher's."""
    gain = found.more_similar
    if gain is None or gain["interval"] is None:
        return []
    (low, high), similar = gain["interval"], found.numbers["distilled"]["similarity"]
    how = "more than" if low > 0 else "less than" if high < 0 else "neither more nor less than"
    told = "" if low > 0 or high < 0 else ", as far as this sample tells"
    return [
        f"The distilled student's maps resemble the teacher's {how} those of the student alone"
        f"{told}: correlation {similar['mean']:.3f}, difference {gain['mean']:+.3f} (95 % interval "
        f"{low:+.3f} to {high:+.3f}, {gain['images']} images)."
    ]


def lines(found: Found) -> list[list[str]]:
    """Return the table, a column per model; its first line is the heading."""
    table = [["", *found.models]]
    for title, name in (("correlation with teacher", "similarity"), ("pointing", "pointing")):
        cells = [_cell(own[name]) for own in found.numbers.values()]
        if any(cells):
            table += [[title, *(mean for mean, _ in map(_parts, cells))]]
            table += [["  95 % interval", *(interval for _, interval in map(_parts, cells))]]
    table.append(["maps that are zero", *(str(own["empty"]) for own in found.numbers.values())])
    return table


def _cell(measured: Mapping[str, Any] | None) -> tuple[str, str] | None:
    if measured is None or measured["mean"] is None:
        return None
    interval = measured["interval"]
    return f"{measured['mean']:.4f}", "" if interval is None else between(interval)


def _parts(cell: tuple[str, str] | None) -> tuple[str, str]:
    return cell or ("", "")


def as_text(found: Found) -> str:
    """Return the table and the sentences, for a terminal."""
    return "\n\n".join([aligned(lines(found)), "\n".join(sentences(found))])


def panel(found: Found) -> Figure:
    """Draw the images that are shown: a row each, with the map of each model on it."""
    rows, columns = len(found.shown), 1 + len(found.models)
    height = SIDE * found.pixels.shape[1] / found.pixels.shape[2]
    figure = Figure(
        figsize=((SIDE + 0.25) * columns + 0.2, (height + 0.38) * rows + 0.35),
        layout="constrained",
    )
    axes = figure.subplots(rows, columns, squeeze=False)
    for row, place in zip(axes, found.shown, strict=True):
        _picture(row[0], found.pixels[place])
        label = found.labels[place]
        named = "" if label == UNKNOWN else f"is {_short(found, label)}"
        row[0].set_title(named, fontsize=8)
        for ax, own in zip(row[1:], found.models.values(), strict=True):
            _overlay(ax, found.pixels[place], own.maps[place])
            _said(ax, found, own, place)
    for ax, name in zip(axes[0], ["image", *found.models], strict=True):
        ax.annotate(
            name, (0.5, 1.0), xytext=(0, 20), xycoords="axes fraction", textcoords="offset points",
            ha="center", va="bottom", fontsize=10, weight="bold",
        )  # fmt: skip
    return figure


def _said(ax: Axes, found: Found, own: Explanation, place: int) -> None:
    predicted, label = own.predicted[place], found.labels[place]
    wrong = label not in (UNKNOWN, predicted)
    text = f"{_short(found, predicted)} ({own.probabilities[place]:.2f})"
    text += ", wrong" if wrong else ""
    text += ", no map" if own.empty[place] else ""
    ax.set_title(text, fontsize=8, color=WRONG if wrong else "black")


def _short(found: Found, label: int) -> str:
    return shown_name(shown(found.class_names[label])).replace("$", r"\$")  # not a formula


def _picture(ax: Axes, pixels: np.ndarray) -> None:
    ax.set_axis_off()
    ax.imshow(pixels, cmap="gray", vmin=0, vmax=255)


def _overlay(ax: Axes, pixels: np.ndarray, amount: np.ndarray) -> None:
    """Draw an image in shades of grey, and a map on it that hides it where it is high."""
    _picture(ax, pixels.mean(axis=-1))
    coloured = COLOURS(amount)
    coloured[..., 3] = OPAQUE * amount
    ax.imshow(coloured)


def _write_table(found: Found, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        columns = _columns(found)
        writer.writerow(columns)
        writer.writerows(zip(*columns.values(), strict=True))


def _columns(found: Found) -> dict[str, list[Any]]:
    """Return the table with a line per image, by column."""
    classes, chosen = found.class_names, set(found.shown.tolist())
    columns: dict[str, list[Any]] = {
        "image": list(found.names),
        "label": ["" if label == UNKNOWN else classes[label] for label in found.labels],
        "shown": [int(place in chosen) for place in range(len(found.names))],
    }
    for role, own in found.models.items():
        columns[f"{role}_predicted"] = [classes[k] for k in own.predicted]
        columns[f"{role}_probability"] = [f"{share:.6g}" for share in own.probabilities]
    for role, numbers in found.numbers.items():
        for name, title in (
            ("similarity", "correlation_with_teacher"),
            ("pointing", "pointing"),
        ):
            if numbers[name] is not None:
                columns[f"{role}_{title}"] = _texts(numbers[name]["by_image"])
    return columns


def _texts(values: np.ndarray) -> list[str]:
    """Return numbers as text; '' where they are not defined."""
    return ["" if math.isnan(value) else f"{value:.6g}" for value in values.tolist()]


def _title(found: Found) -> str:
    return f"What the models look at: {found.task_name}"


def _sections(found: Found, folder: Path) -> list[str]:
    label = found.config.explained == "label"
    parts = [
        html.heading(_title(found), level=1),
        html.paragraph(
            f"Run {found.run.resolve().name} · {len(found.names):,} test images, drawn by seed "
            f"{found.config.seed}",
            "about",
        ),
        html.points(sentences(found), "findings"),
        html.heading("How alike the maps are"),
        html.table(lines(found)),
        html.paragraph(CAUTION, "about"),
        html.heading("Maps"),
        html.paragraph(ABOUT_LABEL if label else ABOUT, "about"),
        html.paragraph(_disagreements(found), "about"),
        html.image(folder / "panel.png", "Images, and the map of each model on them."),
        html.paragraph("images.csv beside this page holds a line per image.", "about"),
        html.heading("How it was made"),
        html.folded("Settings and numbers", facts(found)),
    ]
    return [part for part in parts if part]


def _disagreements(found: Found) -> str:
    if not {"teacher", "distilled"} <= found.models.keys():
        return ""
    differ = found.models["teacher"].predicted != found.models["distilled"].predicted
    return DISAGREE.format(
        shown=differ[found.shown].sum(),
        count=len(found.shown),
        every=differ.sum(),
        total=len(differ),
    )
