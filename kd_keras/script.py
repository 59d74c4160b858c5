"""`kd_keras.distill`: from a script, what the command `kd-keras distill` does."""

import dataclasses
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras

from kd_keras import report as reports
from kd_keras.config import DistillConfig
from kd_keras.data.task import Task
from kd_keras.recipes import chosen
from kd_keras.recipes import distill as recipe
from kd_keras.recipes.progress import Progress
from kd_keras.recipes.results import Results
from kd_keras.recipes.saving import save
from kd_keras.utils.checks import unknown

PATHS = ("out", "export", "data_dir", "cache_dir", "transfer_dir")
GIVEN = "given"  # folder beside the run folder, of the models that were given as objects


def distill(
    task: Task | str | Path,
    *,
    teacher: Any = None,
    student: Any = None,
    epochs: int | None = None,
    seeds: tuple[int, ...] | None = None,
    out: str | Path | None = None,
    show: bool = False,
    report: bool = True,
    **options: Any,
) -> Results:
    """Train a teacher, the student alone and the distilled student; compare, export, report.

    What is not given is chosen from the data: see `recipes.chosen.for_data`.

    Args:
        task: a task; the name of one; or the user's own data, as in `kd_keras.data.load(data=...)`.
        teacher: what `--teacher` takes; a Keras model that returns logits, used as it is; or a
            function of a file, from a batch of images to logits or features.
        student: what `--student` takes; a Keras model, from whose weights every training starts; or
            a function of a file, called with `input_shape` and `classes`.
        epochs, seeds, out: as on the command line.
        show: whether to show progress on standard error.
        report: whether to write the report into the run folder.
        **options: any other field of `DistillConfig`.

    Returns:
        The contents of `results.json`.

    Raises:
        ValueError, FileNotFoundError, FileExistsError: bad settings or data, before training.

    Example:
        >>> import tempfile, kd_keras as kd
        >>> folder = Path(tempfile.mkdtemp())
        >>> found = kd.distill("digits", teacher="cnn", student="mlp", epochs=1, seeds=(0,),
        ...                    student_knobs=("hidden=16,",), out=folder / "run",
        ...                    export=folder / "student", limit=100)
        >>> sorted(found["models"]), (folder / "run/report/index.html").is_file()
        (['alone', 'distilled', 'teacher'], True)
    """
    known = {field.name for field in dataclasses.fields(DistillConfig)}
    for name in options:
        if name not in known:
            raise ValueError(unknown("option of distill:", name, known))
    data, named = _data(task, options)
    settings: dict[str, Any] = {"epochs": epochs, "seeds": None if seeds is None else tuple(seeds)}
    settings |= {"out": out, **options}
    given = {
        name: Path(value) if name in PATHS else value
        for name, value in settings.items()
        if value is not None
    }
    base = chosen.for_data(data).config
    config = _with(base, {**named, **given}, teacher, student)
    place = config.folder.with_name(f"{config.folder.name}-{GIVEN}")
    roles = {"teacher": teacher, "student": student}
    found: dict[str, Any] = {
        role: _as_text(role, each, place) for role, each in roles.items() if each is not None
    }
    config = dataclasses.replace(config, **found)
    results = recipe.run(config, Progress(show=show), task=data)
    if report:
        reports.build([config.folder], config.folder / "report")
    return results


def _data(task: Any, options: dict[str, Any]) -> tuple[Task, dict[str, Any]]:
    """Return the task, and the settings that name it."""
    from kd_keras import data
    from kd_keras.recipes import reading

    if isinstance(task, Task):
        return task, {"task" if task.name in data.TASKS else "data": task.name}
    named = {"task": task} if task in data.TASKS else {"data": str(task)}
    names = {field.name for field in dataclasses.fields(DistillConfig)}
    own = {name: value for name, value in options.items() if name in names}
    return reading.read_task(DistillConfig(**{**own, **named})), named


def _with(base: DistillConfig, given: dict[str, Any], teacher: Any, student: Any) -> DistillConfig:
    """Return chosen settings with those given; a role that is given drops its chosen options."""
    dropped: dict[str, Any] = {}
    if teacher is not None:
        dropped |= {"teacher_knobs": (), "teacher_weights": None}
    if student is not None:
        dropped |= {"student_knobs": (), "student_weights": None}
    return dataclasses.replace(base, **{**dropped, **given})


def _as_text(role: str, given: Any, folder: Path) -> str:
    """Return what a config names: text as it is, a saved model's file, or a function's place."""
    if isinstance(given, (str, Path)):
        return str(given)
    if isinstance(given, keras.Model):
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{role}.keras"
        save(given, path)
        return str(path)
    if isinstance(given, Callable):  # type: ignore[arg-type]
        file, name = inspect.getsourcefile(given), getattr(given, "__qualname__", "")
        if file is not None and Path(file).is_file() and name.isidentifier():
            return f"{file}:{name}"
        raise ValueError(
            f"`{role}` must be a function at the top of a file, so that a run can go on in another "
            f"process. Received: {name or given!r}. Save the file and name it FILE.py:FUNCTION."
        )
    raise ValueError(
        f"`{role}` must be a name, a path, a Keras model or a function. "
        f"Received: {type(given).__name__}"
    )
