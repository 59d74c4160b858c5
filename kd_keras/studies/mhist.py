"""The study on MHIST, two classes of polyps: a large teacher, a small student, uneven classes."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from kd_keras.config import StudyConfig
from kd_keras.data import images
from kd_keras.data.mhist import ANNOTATORS
from kd_keras.data.task import Task
from kd_keras.evaluation.predictions import Predictions
from kd_keras.recipes.reading import read_task
from kd_keras.recipes.results import Names, Results, spread
from kd_keras.report import drawings, plots, thresholds
from kd_keras.studies import maps, reading, two_classes
from kd_keras.studies import mhist_runs as planning
from kd_keras.studies.parts import Part, Plot, Runs, Section, Study, Table
from kd_keras.studies.two_classes import Model

DRAWN = "Drawn images, not MHIST: nothing here says anything about polyps."
QUALITY = {
    "auc": "AUC", "f1": "F1", "accuracy": "accuracy", "balanced_accuracy": "balanced accuracy",
    "nll": "NLL (nats)", "ece": "calibration error",
}  # fmt: skip
METHODS = {
    "kd": "soft targets", "takd": "with an assistant", "subclass": "subclasses",
    "subclass_baseline": "classes of the same teachers",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Found:
    """The findings of the comparison over temperatures, from which most parts start.

    Attributes:
        results: of the comparison.
        chosen: the setting that is best on validation.
        models: the teacher, the student alone, and the student distilled at the chosen setting.
    """

    results: Results
    chosen: Mapping[str, Any]
    models: tuple[Model, Model, Model]

    @property
    def temperature(self) -> float:
        """The chosen temperature."""
        return self.chosen["temperature"]

    @property
    def says(self) -> str:
        """How the temperature was chosen."""
        count = len(self.results["sweep"]["settings"])
        return (
            f"Validation chose temperature {self.temperature:g}, of {count} that were tried, at "
            "alpha 0.5."
        )


def _found(study: StudyConfig, runs: Runs) -> Found:
    runs("teacher")
    found, run = runs("temperatures"), study.run_folder("temperatures")
    chosen = reading.best(found["sweep"]["settings"])
    teacher, alone = two_classes.teacher(found, run), two_classes.alone(found, run)
    return Found(found, chosen, (teacher, alone, two_classes.taught(found, run, chosen)))


# --- teacher, student alone, student distilled ---


def _table(study: StudyConfig, runs: Runs) -> Section:
    found, scale = _found(study, runs), planning.scale_of(study)
    facts = found.results["task"]
    rows: list[tuple[str, ...]] = [
        (title, *(model.cell(metric) for model in found.models))
        for metric, title in QUALITY.items()
    ]
    agreement = [model.cell("agreement") for model in found.models[1:]]
    rows.append(("agreement with the teacher", "-", *agreement))
    table = Table(
        "quality",
        "Teacher, student alone, student distilled",
        ("", *(model.title for model in found.models)),
        tuple(rows),
        f"Test split, {facts['test']:,} images; mean and standard deviation over the seeds; the "
        "teacher was trained once. F1 is that of SSA, where the more probable class is predicted.",
    )
    says = (
        f"{scale.teacher} teaches {scale.student} on {facts['train']:,} images; "
        f"{facts['validation']:,} choose epochs and temperature.",
        found.says,
        found.chosen["verdict"]["text"],
    )
    return Section(says, (table,))


def _cost(study: StudyConfig, runs: Runs) -> Section:
    found, taught = _found(study, runs), runs("teacher")["models"]["model"]
    entries = {model.title: model.entry for model in found.models}
    seconds = {title: _seconds(entry["seeds"]) for title, entry in entries.items()}
    seconds["teacher"] = _seconds(taught["seeds"])
    rows: dict[str, list[str]] = {}
    for entry in entries.values():
        for name, cell in reading.costs(entry).items():
            rows.setdefault(name, []).append(cell)
    rows["training, one seed (s)"] = [f"{value:,.0f}" for value in seconds.values()]
    table = Table(
        "cost",
        "What each model costs",
        ("", *entries),
        tuple((name, *cells) for name, cells in rows.items()),
        "Latency and training are those of this machine. The training of the distilled student "
        "leaves out the teacher's.",
    )
    points = [
        {
            "model": title.split()[-1],
            "auc": entry["summary"]["auc"],
            "parameters": entry["cost"]["parameters"],
            "latency_median_ms": (entry["cost"]["latency_ms"].get("1") or {}).get("median_ms"),
        }
        for title, entry in entries.items()
    ]
    plot = Plot("cost", "Test AUC against size and latency.", plots.cost(points, "auc"))
    teacher, student = (entries[title]["cost"] for title in ("teacher", "student distilled"))
    smaller = teacher["parameters"] / student["parameters"]
    says = f"The student has {smaller:.3g} times fewer parameters than the teacher"
    if teacher["flops"] and student["flops"]:
        says += f", and takes {teacher['flops'] / student['flops']:.3g} times fewer FLOPs"
    return Section((f"{says}.",), (table,), (plot,))


def _seconds(seeds: list[Any]) -> float:
    return float(np.mean([seed["train_seconds"] for seed in seeds]))


# --- curves and thresholds ---


def _curves(study: StudyConfig, runs: Runs) -> Section:
    found = _found(study, runs)
    named = dict(zip(("teacher", "alone", "distilled"), found.models, strict=True))
    entries = {name: model.entry for name, model in named.items()}
    areas = Table(
        "intervals",
        "AUC and F1 with their intervals",
        ("", "AUC", "95 % interval", "F1", "95 % interval"),
        tuple(
            (m.title, *(cell for name in ("auc", "f1") for cell in _with_interval(m, name)))
            for m in found.models
        ),
        "Mean and standard deviation over the seeds. The intervals are bootstraps over the test "
        "images of the mean over the seeds, and leave out the spread over seeds.",
    )
    points = Table(
        "operating-points",
        "At the threshold that validation chose",
        ("", "threshold", "sensitivity", "specificity", "F1"),
        tuple(
            (
                m.title,
                reading.spread(spread([p["threshold"] for p in m.entry["operating"]["seeds"]]), 3),
                two_classes.at_threshold(m, "sensitivity"),
                two_classes.at_threshold(m, "specificity"),
                reading.spread(two_classes.f1_at_threshold(m)),
            )
            for m in found.models
        ),
        thresholds.CHOSEN.format(positive="SSA"),
    )
    figure = thresholds.curves(two_classes.scores(named), entries)
    plot = Plot("curves", thresholds.ABOUT, figure)
    verdict = two_classes.difference("auc", found.models[2], found.models[1])
    return Section((found.says, verdict["text"]), (areas, points), (plot,))


def _with_interval(model: Model, metric: str) -> tuple[str, str]:
    low, high = two_classes.interval(model, metric)
    return model.cell(metric), f"{low:.4f} to {high:.4f}"


# --- temperature ---


def _temperature(study: StudyConfig, runs: Runs) -> Section:
    found = _found(study, runs)
    rows = found.results["sweep"]["settings"]
    teacher, alone, _ = found.models
    table = Table(
        "temperature",
        "Every temperature, beside the student alone",
        ("temperature", "validation AUC", "test AUC", "gain over the student alone", "test F1",
         "agreement with the teacher"),
        tuple(
            (
                f"{row['temperature']:g}",
                reading.spread(row["validation"]),
                reading.spread(row["test"]),
                reading.gain(row["verdict"]),
                *(reading.spread(found.results["models"][row["label"]]["summary"][name])
                  for name in ("f1", "agreement")),
            )
            for row in rows
        ),
        "Alpha 0.5: half of the loss is that of the labels. Gains with their 95 % intervals; a "
        "star marks an interval above zero. Validation chose temperature "
        f"{found.temperature:g}; the test column chooses nothing.",
    )  # fmt: skip
    temperatures = [row["temperature"] for row in rows]
    lines = [
        drawings.Line(
            f"distilled, {split}",
            temperatures,
            [row[split]["mean"] for row in rows],
            [row[split]["std"] or 0.0 for row in rows],
        )
        for split in ("test", "validation")
    ]
    levels = [
        drawings.Level(model.title, model.mean("auc")["mean"], model.mean("auc")["std"])
        for model in (teacher, alone)
    ]
    plot = Plot(
        "over-temperature",
        "AUC of the distilled student over the temperature: mean and standard deviation over the "
        "seeds. Dashed: the teacher and the student alone, on test.",
        drawings.lines(lines, levels, x="temperature", y="AUC", base=2),
    )
    better = sum(row["verdict"]["beats"] for row in rows)
    says = f"{better} of {len(rows)} temperatures beat the student alone by a 95 % interval."
    return Section((says, found.chosen["verdict"]["text"]), (table,), (plot,))


# --- uneven classes ---


def _imbalance(study: StudyConfig, runs: Runs) -> Section:
    found = _found(study, runs)
    without = runs("unweighted", temperatures=(found.temperature,))
    run = study.run_folder("unweighted")
    (row,) = without["sweep"]["settings"]
    _, alone, distilled = found.models
    pairs = [
        (alone, two_classes.alone(without, run)),
        (distilled, two_classes.taught(without, run, row)),
    ]
    says = [_shares(found.results)]
    for on, off in pairs:
        names = Names("Class weights", f"the {off.title} without them")
        says += [two_classes.difference(name, on, off, names)["text"] for name in ("auc", "f1")]
    table = Table(
        "imbalance",
        "With and without class weights",
        ("", "AUC", "F1", "sensitivity at 0.5", "specificity at 0.5", "sensitivity, threshold",
         "specificity, threshold"),
        tuple(
            _weighted(model, word)
            for pair in pairs
            for word, model in zip(("on", "off"), pair, strict=True)
        ),
        "At 0.5 the more probable class is predicted; class weights move that point towards the "
        "rare class. The last two columns are at the threshold that validation chose for each "
        "model, with Wilson's 95 % interval. The teacher, trained with class weights, is the same.",
    )  # fmt: skip
    return Section(tuple(says), (table,), (_points_plot(pairs),))


def _weighted(model: Model, word: str) -> tuple[str, ...]:
    """Return the row of a student with class weights on or off."""
    both, half = ("sensitivity", "specificity"), two_classes.at_half(model)
    return (
        f"{model.title}, weights {word}",
        model.cell("auc"),
        model.cell("f1"),
        *(reading.spread(half[name], 3) for name in both),
        *(two_classes.at_threshold(model, name) for name in both),
    )


def _shares(found: Results) -> str:
    counts = np.array(found["models"]["teacher"]["seeds"][0]["test"]["confusion"]).sum(axis=1)
    return f"{counts[1] / counts.sum():.0%} of the test images are SSA."


def _points_plot(pairs: list[tuple[Model, Model]]) -> Plot:
    """Return a plot of sensitivity over specificity where the more probable class is predicted."""
    lines = []
    for pair in pairs:
        halves = [two_classes.at_half(model) for model in pair]
        x, y = ([half[k]["mean"] for half in halves] for k in ("specificity", "sensitivity"))
        lines.append(drawings.Line(pair[0].title, x, y))
    return Plot(
        "operating-point",
        "Sensitivity and specificity where the more probable class is predicted, mean over the "
        "seeds. Each line joins a student with class weights (the end of higher sensitivity, as a "
        "rule) and the same one without.",
        drawings.lines(lines, x="specificity", y="sensitivity"),
    )


# --- what two classes carry: assistants, subclasses ---


def _compared(study: StudyConfig, found: Results, run: str) -> tuple[Table, list[Model]]:
    """Return the table of a comparison of methods for one student, and its students."""
    place = study.run_folder(run)
    alone, rows = two_classes.alone(found, place), found["sweep"]["settings"]
    cells = [(alone.title, alone.cell("auc"), "-", alone.cell("f1"), alone.cell("agreement"))]
    models = [alone]
    for row in rows:
        title = METHODS[row["method"].partition(":")[0]]
        model = two_classes.taught(found, place, row).renamed(title)
        models.append(model)
        gain = reading.gain(row["verdict"])
        auc, f1, agreement = (model.cell(name) for name in ("auc", "f1", "agreement"))
        cells.append((title, auc, gain, f1, agreement))
    columns = ("", "AUC", "gain over the student alone", "F1", "agreement with the teacher")
    note = "Test split. Gains in AUC with their 95 % intervals; a star marks one above zero."
    return Table(run, "One student, by each method", columns, tuple(cells), note), models


def _assistant(study: StudyConfig, runs: Runs) -> Section:
    found = _found(study, runs)
    methods = planning.assisted(study, found.temperature)
    compared = runs("assistant", methods=methods)
    table, (_, direct, assisted) = _compared(study, compared, "assistant")
    names = Names("The assistant", "soft targets straight from the teacher")
    verdict = two_classes.difference("auc", assisted, direct, names)
    scale = planning.scale_of(study)
    says = (
        f"{scale.assistant} stands between {scale.teacher} and {scale.student}, at temperature "
        f"{found.temperature:g} on both hops."
    )
    return Section((says, verdict["text"]), (table,))


def _subclass(study: StudyConfig, runs: Runs) -> Section:
    compared = runs("subclass")
    table, (_, _, subclasses, baseline) = _compared(study, compared, "subclass")
    names = Names("Learning subclasses", "learning the classes from the same teachers")
    verdict = two_classes.difference("auc", subclasses, baseline, names)
    note = (
        f"{table.note} Temperature 4 throughout. This comparison trains teachers of its own, in "
        "the students' way: one without subclasses, and per seed one with five for each class, "
        "whose predictions of the subclasses and of the classes the last two rows learn."
    )
    return Section((verdict["text"],), (dataclasses.replace(table, note=note),))


# --- the annotators' votes ---


def _votes(study: StudyConfig, runs: Runs) -> Section:
    found = _found(study, runs)
    soft, run = runs("votes", temperatures=(found.temperature,)), study.run_folder("votes")
    (row,) = soft["sweep"]["settings"]
    teacher, alone, distilled = found.models
    by_votes = two_classes.alone(soft, run), two_classes.taught(soft, run, row)
    models = [
        teacher,
        alone.renamed("labels"),
        by_votes[0].renamed("votes"),
        distilled.renamed("labels and teacher"),
        by_votes[1].renamed("votes and teacher"),
    ]
    task = _voted(study, soft)
    shares = np.asarray(task.test.soft_labels)[:, 1]
    votes = np.rint(shares * ANNOTATORS).astype(int)
    tables = _votes_tables(models, votes)
    _, labels, on_votes, both, on_both = models
    says = [
        two_classes.difference("auc", ours, theirs, Names("Learning votes", f"labels, {where}"))
        for ours, theirs, where in (
            (on_votes, labels, "without a teacher"), (on_both, both, "with the teacher"),
        )
    ]  # fmt: skip
    shown = (_agreement_plot(models, votes), _gallery(task, votes))
    return Section((found.says, *(verdict["text"] for verdict in says)), tables, shown)


def _voted(study: StudyConfig, found: Results) -> Task:
    """Return the data with the votes, which must be those of the run.

    Raises:
        ValueError: if they have changed since.
    """
    task = read_task(planning.votes(study)["votes"])
    if task.fingerprint != found["task"]["fingerprint"]:
        raise ValueError(
            f"The data in {study.data_dir} have changed since the run in "
            f"{study.run_folder('votes')} was made: their fingerprint is {task.fingerprint}, it "
            f"was {found['task']['fingerprint']}."
        )
    return task


def _agreements(votes: np.ndarray) -> dict[int, np.ndarray]:
    """Return the rows of the test images by the number of annotators who agree, 4 to 7."""
    agreeing = np.maximum(votes, ANNOTATORS - votes)
    return {int(count): np.flatnonzero(agreeing == count) for count in np.unique(agreeing)}


def _accuracies(model: Model, rows: np.ndarray) -> Any:
    labels, by_seed = model.logits()
    right = [(x.argmax(axis=1) == labels)[rows].mean() for x in by_seed.values()]
    return spread([float(share) for share in right])


def _votes_tables(models: list[Model], votes: np.ndarray) -> tuple[Table, ...]:
    groups = _agreements(votes)
    rows = [
        (
            model.title,
            *(reading.spread(_accuracies(model, rows), 3) for rows in groups.values()),
            model.cell("accuracy"),
        )
        for model in models
    ]
    by_agreement = Table(
        "agreement",
        "Accuracy by the annotators' agreement",
        ("learned from", *(f"{n}/7 ({len(rows)} images)" for n, rows in groups.items()), "all"),
        tuple(rows),
        "Test split, mean and standard deviation over the seeds. 4/7: four of the seven annotators "
        "chose the label; 7/7: all of them. The first row is the teacher, which learned labels.",
    )
    quality = Table(
        "votes",
        "Labels or votes, without the teacher and with it",
        ("learned from", "AUC", "F1", "NLL (nats)", "distance from the votes"),
        tuple(
            (m.title, m.cell("auc"), m.cell("f1"), m.cell("nll"),
             reading.spread(_distance(m, votes)))
            for m in models
        ),
        "Votes replace the label by the share of the annotators who chose each class. The distance "
        "is the mean absolute difference of the probability of SSA and that share.",
    )  # fmt: skip
    return quality, by_agreement


def _distance(model: Model, votes: np.ndarray) -> Any:
    labels, by_seed = model.logits()
    given = [Predictions.of(x, labels).probabilities[:, 1] for x in by_seed.values()]
    return spread([float(np.abs(one - votes / ANNOTATORS).mean()) for one in given])


def _agreement_plot(models: list[Model], votes: np.ndarray) -> Plot:
    groups = _agreements(votes)
    lines = []
    for model in models:
        found = [_accuracies(model, rows) for rows in groups.values()]
        means, stds = [one["mean"] for one in found], [one["std"] or 0.0 for one in found]
        lines.append(drawings.Line(model.title, list(groups), means, stds))
    return Plot(
        "by-agreement",
        "Test accuracy over the number of annotators, of seven, who chose the label: mean and "
        "standard deviation over the seeds.",
        drawings.lines(lines, x="annotators who agree", y="test accuracy"),
    )


def _gallery(task: Task, votes: np.ndarray) -> Plot:
    rows = [np.flatnonzero(votes == count) for count in range(ANNOTATORS + 1)]
    # a row of the first image of each count, and one of the second
    chosen = np.array([own[place] for place in range(2) for own in rows if len(own) > place])
    names = [task.class_names[label] for label in task.test.labels[chosen]]
    captions = [f"{votes[row]} of 7: {name}" for row, name in zip(chosen, names, strict=True)]
    return Plot(
        "images",
        "Test images by the number of annotators who chose SSA, and the label of the majority.",
        drawings.gallery(images.pixels_of(task.test.rows(chosen)), captions),
    )


# --- pretrained weights; maps ---


def _transfer(study: StudyConfig, runs: Runs) -> Section:
    scale = planning.scale_of(study)
    if scale.weights is None:
        return Section(
            (
                f"Left out: {scale.teacher} and {scale.student}, which stand in for the models of "
                "the study here, have no ImageNet weights to start from.",
            )
        )
    found = _found(study, runs)
    runs("teacher-random")
    at = {"temperatures": (found.temperature,)}
    cells = {
        ("ImageNet", "ImageNet"): (found.results, "temperatures"),
        ("ImageNet", "random"): (runs("student-random", **at), "student-random"),
        ("random", "ImageNet"): (runs("only-teacher-random", **at), "only-teacher-random"),
        ("random", "random"): (runs("both-random", **at), "both-random"),
    }
    rows, says = [], []
    for (teacher, student), (results, run) in cells.items():
        place = study.run_folder(run)
        row = found.chosen if run == "temperatures" else results["sweep"]["settings"][0]
        models = (
            two_classes.teacher(results, place),
            two_classes.alone(results, place),
            two_classes.taught(results, place, row),
        )
        rows.append((teacher, student, *(model.cell("auc") for model in models),
                     reading.gain(row["verdict"])))  # fmt: skip
        says.append(f"Teacher {teacher}, student {student}: {row['verdict']['text']}")
    table = Table(
        "transfer",
        "Where teacher and student start from",
        ("teacher", "student", "AUC of the teacher", "student alone", "student distilled", "gain"),
        tuple(rows),
        "Test split. A model from random weights trains as many epochs in all, none of them on the "
        f"head alone, at a learning rate of {planning.RANDOM['learning_rate']:g}.",
    )
    return Section(tuple(says), (table,))


def _maps(study: StudyConfig, runs: Runs) -> Section:
    _found(study, runs)
    return maps.section(study, "temperatures")


# --- the study ---


def _marked(make: Callable[[StudyConfig, Runs], Section]) -> Any:
    """Return what makes a section, and says in a rehearsal of each table and plot what it is of."""

    def made(study: StudyConfig, runs: Runs) -> Section:
        section = make(study, runs)
        return _said(section) if study.rehearsal else section

    return made


def _said(section: Section) -> Section:
    """Return a section that says of itself and of all in it that the images are drawn."""
    tables = tuple(
        dataclasses.replace(
            table,
            title=f"{table.title} (drawn images)",
            columns=(f"{table.columns[0]} (drawn images)".strip(), *table.columns[1:]),
            note=f"{DRAWN} {table.note}".strip(),
        )
        for table in section.tables
    )
    shown = tuple(
        dataclasses.replace(
            plot,
            caption=f"{DRAWN} {plot.caption}",
            figure=plots.titled(plot.figure, "drawn images, not MHIST"),
        )
        for plot in section.plots
    )
    return Section((DRAWN, *section.reading), tables, shown)


MHIST = Study(
    "mhist",
    "Knowledge distillation on MHIST",
    tuple(
        Part(name, title, question, planned, _marked(make))
        for name, title, question, planned, make in (
            (
                "table",
                "Teacher and student",
                "How good is the small model, beside its teacher and trained alone?",
                planning.grid,
                _table,
            ),
            (
                "transfer",
                "Pretrained weights",
                "What do ImageNet weights give to the teacher, and what to the student?",
                planning.transfer,
                _transfer,
            ),
            (
                "curves",
                "Curves and thresholds",
                "How do the models trade missed SSA for false alarms?",
                planning.grid,
                _curves,
            ),
            (
                "temperature",
                "Temperature",
                "How does the temperature change the student?",
                planning.grid,
                _temperature,
            ),
            (
                "imbalance",
                "Class weights",
                "What do class weights change, where two of three images are HP?",
                planning.imbalance,
                _imbalance,
            ),
            (
                "assistant",
                "A teacher assistant",
                "Does a model in between help?",
                planning.assistant,
                _assistant,
            ),
            (
                "subclass",
                "Subclasses",
                "Soft targets of two classes carry few bits: do subclasses carry more?",
                planning.subclass,
                _subclass,
            ),
            (
                "votes",
                "The annotators' votes",
                "Do seven annotators' votes teach what the teacher's predictions do?",
                planning.votes,
                _votes,
            ),
            ("cost", "Cost", "What does each model cost?", planning.grid, _cost),
            (
                "maps",
                "What the models look at",
                "Do teacher and student look at the same places?",
                planning.grid,
                _maps,
            ),
        )
    ),
    rehearse=planning.rehearse,
)
