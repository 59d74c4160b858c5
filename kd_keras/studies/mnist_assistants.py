"""The part `assistants` of the study on MNIST: shrinking students, and models in between.

Every student learns straight from the teacher, and by way of assistants. These are the larger
students of the study: the widest one, the next size up, or a chain through all of them.
"""

import dataclasses
from collections.abc import Mapping, Sequence

from kd_keras.config import CompareConfig, RunConfig, StudyConfig
from kd_keras.recipes.results import Names, Results, Spread, Verdict
from kd_keras.report import drawings
from kd_keras.studies import mnist_runs, reading
from kd_keras.studies.parts import Part, Plot, Runs, Section, Table

WIDTHS = (784, 128, 32, 8)  # units per layer, down to a few thousand weights
ALPHA = 0.1
NO_ASSISTANT = Names("An assistant", "direct distillation")


@dataclasses.dataclass(frozen=True)
class Way:
    """A way from the teacher to a student.

    Attributes:
        name: in tables and plots.
        widths: of the assistants, from the teacher's end; none if the teacher itself teaches.
    """

    name: str
    widths: tuple[int, ...] = ()

    @property
    def method(self) -> str:
        """The spec of the method."""
        if not self.widths:
            return "kd"
        return f"takd:assistants={','.join(f'mlp(hidden={w},{w})' for w in self.widths)}"

    @property
    def title(self) -> str:
        """The way in words."""
        if not self.widths:
            return "direct distillation"
        passed = ", ".join(map(str, self.widths))
        if len(self.widths) == 1:
            return f"an assistant of {passed} units"
        return f"the chain {passed}"


def ways(widths: Sequence[int], width: int) -> tuple[Way, ...]:
    """Return the different ways to a student, of which the first is direct.

    Args:
        widths: the sizes of the study, from wide to narrow.
        width: that of the student.

    Example:
        >>> [(way.name, way.widths) for way in ways((784, 128, 32, 8), 8)]
        [('direct', ()), ('widest', (784,)), ('next size', (32,)), ('chain', (784, 128, 32))]
        >>> [way.title for way in ways((784, 128, 32, 8), 128)]
        ['direct distillation', 'an assistant of 784 units']
    """
    above = tuple(other for other in widths if other > width)
    possible = (
        Way("direct"),
        Way("widest", above[:1]),
        Way("next size", above[-1:]),
        Way("chain", above),
    )
    # ways through the same assistants are one; the first of them gives the name
    by_assistants = {way.widths: way for way in reversed(possible)}
    return tuple(reversed(by_assistants.values()))


@dataclasses.dataclass(frozen=True)
class Reached:
    """A student that was reached by one way.

    Attributes:
        way: the way.
        accuracy: on test.
        gain: over the same student alone.
        over_direct: the gain over direct distillation; None for direct distillation itself.
    """

    way: Way
    accuracy: Spread
    gain: Verdict
    over_direct: Verdict | None


@dataclasses.dataclass(frozen=True)
class Student:
    """A student of one size: alone, and by every way from the teacher.

    Attributes:
        width: units per layer.
        parameters: the number of its weights.
        alone: its accuracy on test when it is trained alone.
        reached: by every way; the first is direct.
    """

    width: int
    parameters: int
    alone: Spread
    reached: tuple[Reached, ...]

    @property
    def assisted(self) -> list[tuple[Way, Verdict]]:
        """The ways through assistants, and their gains over direct distillation."""
        return [(one.way, one.over_direct) for one in self.reached if one.over_direct is not None]

    @property
    def helped(self) -> list[tuple[Way, Verdict]]:
        """The ways that beat direct distillation."""
        return [(way, gain) for way, gain in self.assisted if gain["beats"]]


# --- the runs ---


def _planned(study: StudyConfig) -> Mapping[str, RunConfig]:
    """Return a comparison for each student, since each has other assistants."""
    planned: dict[str, RunConfig] = {}
    for width in _students(study):
        config = CompareConfig(
            **mnist_runs.BUDGET,
            methods=tuple(way.method for way in ways(_widths(study), width)),
            students=(_spec(width),),
            alphas=(ALPHA,),
        )
        planned |= mnist_runs.taught(study, _run_of(width), config)
    return planned


def _widths(study: StudyConfig) -> tuple[int, ...]:
    return WIDTHS[-3:] if study.smoke else WIDTHS


def _students(study: StudyConfig) -> tuple[int, ...]:
    """Return the widths of the students; a quick test has one, which has every way."""
    return _widths(study)[-1:] if study.smoke else _widths(study)


def _spec(width: int) -> str:
    return f"mlp:hidden={width},{width}"


def _run_of(width: int) -> str:
    return f"assistants-{width}"


# --- what they show ---


def _make(study: StudyConfig, runs: Runs) -> Section:
    runs("teacher")
    students = [_student(study, runs, width) for width in _students(study)]
    return Section(
        tuple(_sentences(students)),
        (_table(students),),
        (_over_weights(students), _over_direct(students)),
    )


def _student(study: StudyConfig, runs: Runs, width: int) -> Student:
    found, run = runs(_run_of(width)), study.run_folder(_run_of(width))
    direct, *assisted = ways(_widths(study), width)
    start = _reached(found, direct)
    label = _row(found, direct)["label"]
    rest = []
    for way in assisted:
        ours = reading.Role(run, _row(found, way)["label"])
        verdict = reading.difference(ours, reading.Role(run, label), NO_ASSISTANT)
        rest.append(dataclasses.replace(_reached(found, way), over_direct=verdict))
    alone = reading.alone(found, _spec(width))
    count, accuracy = alone["cost"]["parameters"], alone["summary"]["accuracy"]
    return Student(width, count, accuracy, (start, *rest))


def _row(found: Results, way: Way) -> dict:
    (row,) = reading.settings(found, method=way.method)
    return row


def _reached(found: Results, way: Way) -> Reached:
    row = _row(found, way)
    return Reached(way, row["test"], row["verdict"], None)


def _sentences(students: Sequence[Student]) -> list[str]:
    """Return a sentence per student that has assistants, and one on where assistants win."""
    assisted = [student for student in students if student.assisted]
    winners = [str(student.width) for student in assisted if student.helped]
    if winners:
        end = f"Assistants win where the student has {' or '.join(winners)} units per layer."
    else:
        end = "Assistants win at no size of the student here."
    return [*map(_sentence, assisted), end]


def _sentence(student: Student) -> str:
    """Say whether an assistant or a chain beats direct distillation of a student."""
    where = f"With {student.width} units per layer"
    if student.helped:
        gains = [f"{way.title} by {reading.gain(gain)}" for way, gain in student.helped]
        return f"{where}, direct distillation is beaten by {' and by '.join(gains)}."
    titles = [way.title for way, _ in student.assisted]
    if len(titles) == 1:
        return f"{where}, {titles[0]} does not beat direct distillation by a 95 % interval."
    return f"{where}, neither {' nor '.join(titles)} beats direct distillation by a 95 % interval."


def _table(students: Sequence[Student]) -> Table:
    rows = []
    for student in students:
        first = f"{student.width} units, {student.parameters:,} weights"
        rows.append((first, "alone", "-", reading.spread(student.alone), "-", "-"))
        for one in student.reached:
            passed = ", ".join(map(str, one.way.widths)) or "-"
            over = reading.gain(one.over_direct) if one.over_direct else "-"
            accuracy, gain = reading.spread(one.accuracy), reading.gain(one.gain)
            rows.append((first, one.way.name, passed, accuracy, gain, over))
    return Table(
        "assistants",
        "Direct distillation and assistants, as the student shrinks",
        ("student", "taught", "assistants", "accuracy", "gain over the student alone",
         "gain over direct distillation"),
        tuple(rows),
        "Test accuracy, mean and standard deviation over the seeds; gains with their 95 % paired "
        "intervals, a star marks an interval above zero. No interval is corrected for the number "
        "of comparisons. Assistants stand in the order of teaching, by their units per layer; each "
        "is trained anew for every seed, as long as the student.",
    )  # fmt: skip


def _over_weights(students: Sequence[Student]) -> Plot:
    """Plot accuracy over the number of weights, a line per way."""
    points: dict[str, list[tuple[float, Spread]]] = {"student alone": []}
    for student in students:
        count = float(student.parameters)
        points["student alone"].append((count, student.alone))
        for one in student.reached:
            points.setdefault(one.way.name, []).append((count, one.accuracy))
    lines = [
        drawings.Line(
            name,
            [count for count, _ in own],
            [value["mean"] for _, value in own],
            [value["std"] or 0.0 for _, value in own],
        )
        for name, own in points.items()
    ]
    return Plot(
        "shrinking",
        "Test accuracy over the number of weights: mean and standard deviation over the seeds.",
        drawings.lines(lines, x="weights", y="test accuracy", base=10),
    )


def _over_direct(students: Sequence[Student]) -> Plot:
    """Plot the gains over direct distillation, a row per student and way."""
    shown = [
        (f"{student.width} units: {way.name}", gain)
        for student in students
        for way, gain in student.assisted
    ]
    marks = reading.marks("by assistants", [gain for _, gain in shown])
    return Plot(
        "over-direct",
        "Gain in test accuracy over direct distillation, with 95 % intervals.",
        drawings.intervals(
            [marks], rows=[name for name, _ in shown], x="gain in test accuracy over direct kd"
        ),
    )


ASSISTANTS = Part(
    "assistants",
    "Shrinking students and teacher assistants",
    "How small may the student be, and does a model in between help, or a chain of them?",
    _planned,
    _make,
)
