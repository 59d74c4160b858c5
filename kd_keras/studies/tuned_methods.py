"""Every method that fits one teacher and one student, tuned with the same budget, side by side.

Each method has a search of its own on validation, which chooses among its default setting and the
trials. A few trials may all be worse than the default, and a rival that lost by tuning would
flatter all others. Default and best trial are then trained for every seed, and compared on test
with the same student alone, and with plain `kd` that was tuned in the same way. Seeds and test
images are the same in all searches, so that each difference has a paired interval.
"""

import dataclasses
import logging
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol

from kd_keras import methods
from kd_keras.config import RunConfig, StudyConfig, TrainConfig
from kd_keras.recipes import grid, setup
from kd_keras.recipes.results import Names, Results, Verdict
from kd_keras.report import drawings
from kd_keras.studies import reading, shared
from kd_keras.studies.parts import Part, Plot, Runs, Section, Table
from kd_keras.studies.settings import Config
from kd_keras.training.divergence import Diverged
from tuning import outcome
from tuning.config import TuneConfig
from tuning.values import in_words

log = logging.getLogger(__name__)

PLAIN = "kd"  # with which all others are compared
OVER_PLAIN = Names("The method", f"tuned {PLAIN}")
BY_CHANCE = 0.025  # of the intervals lie above zero where nothing differs


class Own(Protocol):
    """Puts the data and seeds of a study into a config, as `settings.own` does."""

    def __call__(self, study: StudyConfig, config: Config, /) -> Config:
        """Return the config of a run of the study."""


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A comparison of all methods for one teacher and one student.

    Attributes:
        teacher: the run that trains the teacher.
        student: its spec.
        search: the budget and the number of trials, the same for all methods.
        options: of methods whose own defaults do not suit these models, by name.
        quick: the methods of a quick test, `kd` among them.
        note: says beside the reasons why some methods are left out.
        own: puts the data and seeds of the study into a config.
    """

    teacher: TrainConfig
    student: str
    search: TuneConfig
    options: Mapping[str, tuple[str, ...]]
    quick: tuple[str, ...]
    note: str
    own: Own

    def part(self) -> Part:
        """Return the part of a study."""
        return Part(
            "methods",
            "Methods beside each other",
            "Which methods beat the same student alone, with their default settings and tuned, and "
            f"which of them beat plain {PLAIN} that is tuned as well?",
            self.planned,
            self.make,
        )

    def names(self, study: StudyConfig) -> tuple[str, ...]:
        """Return the methods, in the order in which they run."""
        return self.quick if study.smoke else tuple(setup.every_method())

    def planned(self, study: StudyConfig) -> Mapping[str, RunConfig]:
        """Return the search of every method, and the run of the teacher."""
        teacher, runs = self.own(study, self.teacher), dict[str, RunConfig]()
        for name in self.names(study):
            config = self.own(study, self._search(study, name))
            runs |= shared.taught(study, run_of(name), config, teacher)
        return runs

    def make(self, study: StudyConfig, runs: Runs) -> Section:
        """Run the searches of all methods that fit, and compare these."""
        runs(shared.TEACHER)
        planned = self.planned(study)
        left = _misfits(study, {name: planned[run_of(name)] for name in self.names(study)})
        found: dict[str, Results] = {}
        for name in self.names(study):
            if name in left:
                continue
            try:
                found[name] = runs(run_of(name))
            except (Diverged, RuntimeError) as error:  # a search ends by the latter
                left[name] = _failure(error)
                log.warning("%s is left out: %s", name, left[name])
        tuned = [_tuned(study, name, found) for name in found]
        return compared(sorted(tuned, key=lambda row: -row.choice.score), left, self.note)

    def _search(self, study: StudyConfig, name: str) -> TuneConfig:
        """Return the search for the settings of a method."""
        student, made = grid.parse_spec("student", self.student), methods.get(name)
        only_logits = isinstance(made, methods.Method) and made.teacher_taps == ("logits",)
        return dataclasses.replace(
            self.search,
            space=f"methods={name}",
            method=name,
            method_knobs=self.options.get(name, ()),
            student=student.name,
            student_knobs=student.knobs,
            trials=1 if study.smoke else self.search.trials,
            # all that learn from logits read the same ones; features would fill the disk
            cache_dir=study.folder / "logits" if only_logits else None,
        )


@dataclasses.dataclass(frozen=True)
class Choice:
    """The setting of a method that validation chose: its default, or the best of its trials.

    Attributes:
        role: its name in the run, `"default"` or `"tuned"`.
        score: its accuracy on validation.
        values: its values in words.
    """

    role: str
    score: float
    values: str


@dataclasses.dataclass(frozen=True)
class Tuned:
    """A method that was tuned, and its gains on test.

    Attributes:
        name: of the method.
        found: the results of its search.
        choice: the setting that validation chose.
        default: the gain of its default setting over the student alone.
        tuned: that of the chosen setting.
        over_plain: the gain of the chosen setting over that of `kd`; None for `kd` itself.
    """

    name: str
    found: Results
    choice: Choice
    default: Verdict
    tuned: Verdict
    over_plain: Verdict | None = None


def run_of(method: str) -> str:
    """Return the name of the run of a method's search."""
    return f"method-{method}"


# --- the methods that fit ---


def _misfits(study: StudyConfig, planned: Mapping[str, RunConfig]) -> dict[str, str]:
    """Return why methods do not fit, by name. Those whose run is finished are known to fit."""
    waiting = {
        name: config
        for name, config in planned.items()
        if isinstance(config, TuneConfig)
        and not (study.run_folder(run_of(name)) / "results.json").exists()
    }
    if not waiting:
        return {}
    task = setup.read_task(next(iter(waiting.values())))
    reasons = {name: setup.misfit(config, task) for name, config in waiting.items()}
    for name, reason in reasons.items():
        if reason is not None:
            log.info("%s is left out: %s", name, reason)
    return {name: reason for name, reason in reasons.items() if reason is not None}


def _failure(error: Exception) -> str:
    """Return why a search failed. The last line names the error of its last trial."""
    if isinstance(error, Diverged):
        return f"It diverged: {error}"
    *_, last = ["an unknown error", *str(error).strip().splitlines()]
    return f"Its search failed: {last}"


def _tuned(study: StudyConfig, name: str, found: Mapping[str, Results]) -> Tuned:
    """Return a method beside the student alone, and beside `kd` if that is found too."""
    run, choice = study.run_folder(run_of(name)), chosen(name, found[name])
    alone, default, tuned = (reading.Role(run, r) for r in ("alone", "default", choice.role))
    of_default, of_tuned = (reading.difference(role, alone) for role in (default, tuned))
    over_plain = None
    if name != PLAIN and PLAIN in found:
        rival = reading.Role(study.run_folder(run_of(PLAIN)), chosen(PLAIN, found[PLAIN]).role)
        over_plain = reading.difference(tuned, rival, OVER_PLAIN)
    return Tuned(name, found[name], choice, of_default, of_tuned, over_plain)


def chosen(name: str, found: Results) -> Choice:
    """Return the setting of a method that is best on validation; the default one of a tie."""
    search = found["search"]
    best, default = outcome.best(search["trials"]), float(search["default"]["score"]["mean"])
    score = float(best["score"]["mean"])
    if score <= default:
        return Choice("default", default, "default")
    values = {key.removeprefix(f"{name} "): value for key, value in best["values"].items()}
    return Choice("tuned", score, in_words({k: v for k, v in values.items() if k != "method"}))


# --- what they show ---


def compared(tuned: Sequence[Tuned], left: Mapping[str, str], note: str = "") -> Section:
    """Return the section on methods.

    Args:
        tuned: the methods in the order of validation, at least one.
        left: why others are left out, by name.
        note: is shown beside these reasons.
    """
    first = tuned[0]
    default, best = (sum(v["beats"] for v in side) for side in zip(*_gains(tuned), strict=True))
    told = (
        f"Of {len(tuned)} methods, {default} beat the student alone by a 95 % interval with "
        f"their default settings, and {best} after tuning.",
        *_over_plain(tuned),
        f"{first.name} is best on validation. Tuned, its gain on test over the student alone is "
        f"{reading.gain(first.tuned)}.",
    )
    return Section(told, (_table(tuned), *_left_out(left, note)), tuple(_plots(tuned)))


def _gains(tuned: Iterable[Tuned]) -> list[tuple[Verdict, Verdict]]:
    return [(row.default, row.tuned) for row in tuned]


def _beside_plain(tuned: Iterable[Tuned]) -> dict[str, Verdict]:
    """Return the gains over tuned `kd` by method."""
    return {row.name: row.over_plain for row in tuned if row.over_plain is not None}


def _over_plain(tuned: Sequence[Tuned]) -> list[str]:
    """Return how many methods beat tuned `kd`, and which; nothing if `kd` was not tuned."""
    gains = _beside_plain(tuned)
    if not gains:
        return []
    better = [name for name, gain in gains.items() if gain["beats"]]
    worse = [n for n, gain in gains.items() if gain["interval"] and gain["interval"][1] < 0]
    named = f": {', '.join(better)}" if better else ""
    return [
        f"{len(better)} of {len(gains)} other methods beat tuned {PLAIN} by a 95 % "
        f"interval{named}. The intervals of {len(worse)} lie below zero.",
        f"If no method differed from {PLAIN}, about {BY_CHANCE * len(gains):.2g} of these "
        "intervals would lie above zero by chance.",
    ]


def _table(tuned: Sequence[Tuned]) -> Table:
    first = tuned[0]
    summary = {role: entry["summary"]["accuracy"] for role, entry in first.found["models"].items()}
    alone = f"{first.found['search']['alone']['score']['mean']:.4f}"
    empty = ("",) * 5
    return Table(
        "methods",
        "Methods beside the same student alone, in the order of validation",
        ("", "validation", "default", "its gain", "tuned", "its gain (tuned)",
         f"gain over tuned {PLAIN}", "chosen"),
        (
            ("teacher", "-", reading.spread(summary["teacher"]), *empty),
            ("student alone", alone, reading.spread(summary["alone"]), *empty),
            *map(_row, tuned),
        ),
        "Test accuracy, mean and standard deviation over the seeds, and its gain over the student "
        f"alone with the 95 % interval; then the gain over tuned {PLAIN}, whose run has the same "
        "seeds and test images. A star marks an interval above zero. Tuned is the setting of the "
        "last column, which validation chose among the default and "
        f"{len(first.found['search']['trials'])} trials; the first number is its score there. "
        "The student alone keeps the default learning rate, so that some of what tuning gains may "
        f"be the rate's; {PLAIN} is tuned with the same budget as the others. No interval is "
        "corrected for the number of methods.",
    )  # fmt: skip


def _row(row: Tuned) -> tuple[str, ...]:
    models = row.found["models"]
    default, tuned = (
        reading.spread(models[role]["summary"]["accuracy"]) for role in ("default", row.choice.role)
    )
    return (
        row.name,
        f"{row.choice.score:.4f}",
        *(default, reading.gain(row.default)),
        *(tuned, reading.gain(row.tuned)),
        "-" if row.over_plain is None else reading.gain(row.over_plain),
        row.choice.values,
    )


def _plots(tuned: Sequence[Tuned]) -> list[Plot]:
    default, best = (list(side) for side in zip(*_gains(tuned), strict=True))
    over_alone = Plot(
        "gains",
        "Gain in test accuracy over the same student alone, with 95 % intervals: methods in the "
        "order of validation.",
        drawings.intervals(
            [reading.marks("default", default), reading.marks("tuned", best)],
            rows=[row.name for row in tuned],
            x="gain in test accuracy",
        ),
    )
    gains = _beside_plain(tuned)
    if not gains:
        return [over_alone]
    over_plain = Plot(
        f"over-{PLAIN}",
        f"Gain in test accuracy of each tuned method over tuned {PLAIN}, with 95 % intervals: "
        "methods in the order of validation.",
        drawings.intervals(
            [reading.marks("tuned", list(gains.values()))],
            rows=list(gains),
            x=f"gain in test accuracy over tuned {PLAIN}",
        ),
    )
    return [over_alone, over_plain]


def _left_out(left: Mapping[str, str], note: str) -> tuple[Table, ...]:
    if not left:
        return ()
    title, columns = "Methods that are left out", ("method", "why")
    return (Table("left-out", title, columns, tuple(left.items()), note),)
