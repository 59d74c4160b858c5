"""What the models of a run look at: their maps on the same test images, and numbers about them."""

import dataclasses
from collections.abc import Iterable

from kd_keras.config import ExplainConfig, StudyConfig
from kd_keras.recipes import explaining
from kd_keras.recipes.explaining import Found
from kd_keras.report import explain_page
from kd_keras.studies.parts import Plot, Section, Table

SHOWN = 6  # images
OF_ROLE = {
    "teacher": "the teacher's maps", "alone": "those of the student alone",
    "distilled": "those of the distilled student",
}  # fmt: skip


def section(study: StudyConfig, run: str) -> Section:
    """Return the section on the maps of teacher, student alone and distilled student.

    Args:
        study: the settings of the study.
        run: the name of a finished run, which has kept these models.

    Raises:
        FileNotFoundError, ValueError: as `explaining.run`.
    """
    quick = ExplainConfig(images=4, sample=16)
    config = quick if study.smoke else ExplainConfig(images=SHOWN)
    found = explaining.run(study.run_folder(run), config)
    head, *lines = explain_page.lines(found)
    table = Table(
        "maps",
        "How alike the maps are",
        tuple(head),
        tuple(tuple(cell or "-" for cell in line) for line in lines),
        explain_page.CAUTION,
    )
    plot = Plot("maps", explain_page.ABOUT, explain_page.panel(found))
    return Section((*explain_page.sentences(found), *_pointing(found)), (table,), (plot,))


def of_student(made: Section, name: str, student: str) -> Section:
    """Return a section on maps that says which student it is about, for a page with several.

    Args:
        made: the section.
        name: what its table and plot are called, so that their files differ from others.
        student: the student in a few words.
    """
    tables = tuple(
        dataclasses.replace(table, name=f"{table.name}-{name}", title=f"{table.title}: {student}")
        for table in made.tables
    )
    shown = tuple(
        dataclasses.replace(
            plot, name=f"{plot.name}-{name}", caption=f"The student is {student}. {plot.caption}"
        )
        for plot in made.plots
    )
    return Section((f"The student is {student}.", *made.reading), tables, shown)


def joined(sections: Iterable[Section]) -> Section:
    """Return one section with all that several sections hold, in their order."""
    reading, tables, shown = zip(*((s.reading, s.tables, s.plots) for s in sections), strict=True)
    return Section(sum(reading, ()), sum(tables, ()), sum(shown, ()))


def _pointing(found: Found) -> tuple[str, ...]:
    """Return a sentence on how often the maximum lies on the object, if that was measured."""
    measured = {
        role: own["pointing"]["mean"]
        for role, own in found.numbers.items()
        if role in OF_ROLE and own["pointing"] is not None
    }
    if not measured:
        return ()
    *others, last = [f"in {mean:.3f} of {OF_ROLE[role]}" for role, mean in measured.items()]
    shares = f"{', '.join(others)} and {last}" if others else last
    return (f"The maximum lies on the drawing {shares}.",)
