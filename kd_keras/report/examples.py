"""The worst errors and the disagreements of a run, as pictures."""

from typing import Any

from kd_keras.report import html
from kd_keras.report.folders import Run

NAMES = {
    "distilled": "the distilled student",
    "tuned": "the tuned student",
    "model": "the model",
}
KINDS = {
    "errors": (
        "The worst errors of {student}",
        "Test images to whose class the model gives the least probability, the mean over the "
        "seeds. In brackets the probability of the class that was predicted.",
    ),
    "disagreements": (
        "Where teacher and {student} disagree most",
        "Other test images for which the two predict different classes, the surest first.",
    ),
}


def sections(run: Run) -> list[str]:
    """Return the HTML of the pictures; nothing for a run that stored none."""
    found = run["results"].get("examples")
    if not found:
        return []
    parts = []
    for kind, (heading, about) in KINDS.items():
        shown = found[kind]
        if shown:
            student = NAMES.get(found["student"], found["student"])
            parts += [
                html.heading(heading.format(student=student)),
                html.paragraph(about, "about"),
                html.pictures((run["folder"] / one["file"], _said(one)) for one in shown),
            ]
    return parts


def _said(one: dict[str, Any]) -> list[str]:
    answers = [f"{role}: {name} ({share:.2f})" for role, (name, share) in one["predicted"].items()]
    return [f"is {one['label']}", *answers, f"image {one['image']}"]
