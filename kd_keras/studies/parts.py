"""What a study is made of: parts, the runs that each needs, and the section that each writes."""

import csv
import dataclasses
import io
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from kd_keras.config import RunConfig, StudyConfig
from kd_keras.recipes.results import Results
from kd_keras.report import study_page


@dataclasses.dataclass(frozen=True)
class Table:
    """A table of a section.

    Attributes:
        name: of its files, without an ending.
        title: what it shows.
        columns: the heads; the first column names the rows.
        rows: the cells, as text.
        note: what a reader should know beside it.

    Example:
        >>> table = Table("t", "A table", ("model", "accuracy"), (("teacher", "0.99"),))
        >>> print(table.markdown())
        | model | accuracy |
        |---|---:|
        | teacher | 0.99 |
    """

    name: str
    title: str
    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    note: str = ""

    def markdown(self) -> str:
        """Return the table in Markdown."""
        return study_page.markdown_table(self.columns, self.rows)

    def csv(self) -> str:
        """Return the table as comma-separated values."""
        file = io.StringIO()
        csv.writer(file, lineterminator="\n").writerows([self.columns, *self.rows])
        return file.getvalue()


@dataclasses.dataclass(frozen=True)
class Plot:
    """A plot of a section: a figure of `report.drawings`, and what it shows."""

    name: str
    caption: str
    figure: Any


@dataclasses.dataclass(frozen=True)
class Section:
    """What a part has found.

    Attributes:
        reading: sentences that say what the tables and plots show.
        tables, plots: in the order in which they are shown.
    """

    reading: tuple[str, ...]
    tables: tuple[Table, ...] = ()
    plots: tuple[Plot, ...] = ()


class Runs(Protocol):
    """Makes the runs of a part, each once."""

    def __call__(self, name: str, **changes: Any) -> Results:
        """Return the results of a planned run, with some of its settings changed."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A part of a study.

    Attributes:
        name: as in `--part`.
        title: of its section.
        question: the question that it answers, in a sentence.
        planned: returns the configs of its runs by name. Parts that plan a run of the same name
            and config share it.
        make: makes the runs and reads them.
    """

    name: str
    title: str
    question: str
    planned: Callable[[StudyConfig], Mapping[str, RunConfig]]
    make: Callable[[StudyConfig, Runs], Section]


@dataclasses.dataclass(frozen=True)
class Study:
    """A study.

    Attributes:
        name: on the command line.
        title: of its page.
        parts: in the order of the page.
        rehearse: prepares a rehearsal, on images that are drawn for it: returns the settings with
            the folder of these images. None if the study has none.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    rehearse: Callable[[StudyConfig], StudyConfig] | None = None
