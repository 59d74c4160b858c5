"""Turn a config into tasks, models and methods, checked before anything heavy starts."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import keras

from kd_keras import config as configs
from kd_keras import data, methods, models, schedules, teachers
from kd_keras.cache.pictures import decoded_once
from kd_keras.config import CompareConfig
from kd_keras.data import augmentation
from kd_keras.data.task import Split, Task, without_validation
from kd_keras.methods import METHODS, Method, Stage
from kd_keras.methods.plans.pretraining import Pretraining
from kd_keras.models import freezing, new_head, outside, taps
from kd_keras.models.precision import building
from kd_keras.models.several import MEANS
from kd_keras.recipes import grid, optimizers, teacher_predictions, tracking, transfer
from kd_keras.recipes.grid import Spec
from kd_keras.recipes.reading import each_split, limited
from kd_keras.recipes.reading import read_task as read_task
from kd_keras.recipes.saving import check_file, file_digest, read_any
from kd_keras.recipes.saving import load_model as load_model
from kd_keras.recipes.saving import read_model as read_model
from kd_keras.teachers import TeacherSource, as_source
from kd_keras.teachers.loading import KERAS
from kd_keras.training.mutual import MutualDistiller
from kd_keras.training.stages import roles_of
from kd_keras.utils.checks import lookup, unknown

log = logging.getLogger(__name__)


Training = configs.TrainConfig | configs.TeachingConfig

ALL = "all"


def check(config: Training) -> None:
    """Raise `ValueError` or `FileNotFoundError` for unknown names and options, or missing files."""
    tracking.check(config.track)
    lookup("optimizer", optimizers.known(), config.optimizer)
    if isinstance(config, configs.TrainConfig):
        check_data(config)
        check_model(config.model, config.model_knobs)
        return
    students = taught(config)
    check_data(config, *(plan.loss for _, plan, _ in students))
    check_teacher(config)
    for spec, *_ in students:
        check_model(spec.name, spec.knobs)


def check_data(config: configs.DataConfig, *learning: methods.Method) -> None:
    """Raise `ValueError` for unknown names and options of data, or of stored predictions.

    Args:
        config: the config to check.
        learning: the methods of the run.
    """
    if config.data is None:
        lookup("task", data.TASKS, config.task)
        if config.group is not None:
            raise ValueError("`group` names a column of your own data: give `data` (--data) too.")
    augmentation.parse_augmentation(config.augmentation)
    if isinstance(config, configs.CacheConfig):
        teacher_predictions.check_storage(config, *learning)


def check_teacher(config: configs.TeacherConfig) -> None:
    """Raise `ValueError` or `FileNotFoundError` for a teacher that does not exist."""
    lookup("mean", MEANS, config.teacher_mean)
    teachers.Input(size=config.teacher_size, scale=config.teacher_scale)
    for spec in grid.teachers(config):
        if not exists(spec, config):
            check_model(spec.name, spec.knobs)
            continue
        _check_exists(spec.name)
        if spec.knobs or spec.weights:
            raise ValueError(
                f"A teacher that exists is used as it is, unless it is trained first "
                f"(--train-teacher): {spec.name} takes neither knobs nor weights. Received: {spec}"
            )


def _check_exists(name: str) -> None:
    if outside.is_function(name):
        outside.function_at(name)
    elif not name.startswith("hub:") and not teachers.is_foreign_file(name):
        check_file(name)
    elif not name.startswith("hub:") and not Path(name).exists():
        raise FileNotFoundError(f"There is no model file {name}.")


def untrained_teacher(config: configs.TeachingConfig, task: Task) -> keras.Model:
    """Return the teacher, untrained or as it exists; several are joined into one."""
    found = []
    for spec in grid.teachers(config):
        if exists(spec, config):
            found.append(load_teacher(spec.name, config, task))
        else:
            found.append(_unfrozen(build_teacher(spec, config, task, seed=0), config))
    return found[0] if len(found) == 1 else models.ensemble(found, config.teacher_mean)


def build_teacher(spec: Spec, config: configs.TeachingConfig, task: Task, seed: int) -> keras.Model:
    """Return a teacher that is yet to be trained, initialised by the seed.

    That of a file starts from the file's weights, at its own size, with a new head if it has other
    classes than the task or none.

    Raises:
        FileNotFoundError, ValueError: as `build_model` and `teachers.trainable`.
    """
    if not spec.name.lower().endswith(KERAS):
        return build_model(
            spec.name, spec.knobs, spec.weights, task, seed, precision=config.precision
        )
    keras.utils.set_random_seed(seed)
    model = read_any(spec.name)
    return teachers.trainable(model, task, size=config.teacher_size, scale=config.teacher_scale)


def load_teacher(name: str, config: configs.TeacherInputConfig, task: Task) -> keras.Model:
    """Return a teacher that exists, for the images and classes of a task.

    Raises:
        FileNotFoundError, ValueError: as `teachers.load`.
    """
    return teachers.load(
        name,
        task,
        size=config.teacher_size,
        scale=config.teacher_scale,
        classes=config.teacher_classes or None,
        augmented=isinstance(config, configs.DataConfig) and config.augmentation != "none",
        read=read_model,
    )


def refuse_unjudged(teacher: keras.Model) -> None:
    """Raise `ValueError` for a teacher that cannot be evaluated beside its students."""
    if not teachers.is_judged(teacher):
        raise ValueError(
            "This command compares students with their teacher, but the teacher gives no logits "
            "for validation and test. `kd-keras distill` runs without its score."
        )


def saved_teacher(path: Path, config: configs.TeacherConfig, task: Task) -> keras.Model:
    """Return the teacher that a run has saved at `path`, or the one that it was given."""
    if exists(grid.teachers(config)[0], config) and not config.more_teachers:
        return load_teacher(config.teacher, config, task)
    return load_model(path, task)


def is_given(model: str) -> bool:
    """Return whether a config's model exists already, and is not built by its name."""
    return bool(model) and model not in models.MODELS and teachers.is_given(model)


def exists(spec: Spec, config: configs.TeacherConfig) -> bool:
    """Return whether a teacher is used as it is, and not trained on the task first."""
    return is_given(spec.name) and not config.train_teacher


def check_model(name: str, knobs: tuple[str, ...]) -> None:
    """Raise `ValueError` for an unknown model or knob, or a file that is not Keras' own."""
    if is_given(name) and not outside.is_function(name):
        if not name.lower().endswith(KERAS):
            raise ValueError(
                f"A model to be trained is built by name or by FILE.py:FUNCTION, or is a .keras "
                f"file. Received: {name}. Its backbone's pretrained weights have their own option."
            )
        check_file(name)
        if knobs:
            raise ValueError(f"A model from a file has no knobs. Received: {name}, {knobs}")
        return
    known = models.knobs(name)
    for knob in configs.parse_knobs("knobs", knobs):
        if knob not in known:
            raise ValueError(unknown(f"knob of model {name!r}:", knob, known))


def check_models(config: Training, task: Task) -> None:
    """Build or load every model and method once, then drop it, to find faults before training.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: for knobs, weights, blocks or taps that a
            model does not have, a file of another shape, features that a method cannot match, or
            predictions that take more than the limit.
    """
    if isinstance(config, configs.TrainConfig):
        _check_built(config, task, Spec(config.model, config.model_knobs, config.weights))
        return
    teacher = untrained_teacher(config, task)
    plans = []
    for spec, plan, alpha in taught(config):
        student = _check_built(config, task, spec, plan.logits(task.classes))
        planned = plan.stages(roles(config, spec, student, teacher, task))
        transfer.check_unlabelled(config, planned, alpha)
        _check_chooses_nothing(config, plan, planned)
        plans.append((plan.name, [stage.chosen() for stage in planned]))
    check_stages(plans, teacher, config, task)


def _check_chooses_nothing(
    config: configs.TeachingConfig, plan: methods.Plan, stages: Sequence[Stage]
) -> None:
    """Refuse methods that need validation beyond the choice of an epoch, if there is none."""
    if learns_all(config) and (len(stages) > 1 or stages[0].peers):
        raise ValueError(
            f"`without_validation` is for methods of one training: {plan.name} trains several "
            "models, and chooses on validation. Leave it out, or take another method, such as kd."
        )


def taught(config: configs.TeachingConfig) -> list[tuple[Spec, methods.Plan, Any]]:
    """Return every student that will be taught, with its plan and alpha."""
    if isinstance(config, configs.SettingConfig):
        return [(grid.student(config), plan(config, epochs=1), alpha(config, epochs=1))]
    if not isinstance(config, grid.Sweep):
        raise TypeError(f"{type(config).__name__} names no students.")
    learning = [(row, grid.plan_of(row)) for row in grid.settings(config)]
    return [(row.student, own, grid.alpha_of(row, own)) for row, own in learning]


def _check_built(
    config: configs.RunConfig, task: Task, spec: Spec, logits: int | None = None
) -> keras.Model:
    precision = config.precision
    model = build_model(
        spec.name, spec.knobs, spec.weights, task, seed=0, logits=logits, precision=precision
    )
    return _unfrozen(model, config)


def _unfrozen(model: keras.Model, config: configs.RunConfig) -> keras.Model:
    if config.head_epochs:
        freezing.unfreeze(model, config.unfreeze_blocks)
    return model


def load_task(config: configs.DataConfig, *, whole: bool = False) -> Task:
    """Return the task of a config, with its image files decoded: see `decoded_once`.

    Args:
        config: names the task, and the augmentation of its images.
        whole: move the examples of the validation split to the training split, also if the config
            does not ask for it.

    Raises:
        ValueError, FileNotFoundError: as `data.load`; for images that an augmentation is not made
            for.
    """
    task = read_task(config)
    if not (whole or learns_all(config)):
        return decoded(task, config)
    return decoded(without_validation(task), config)


def learns_all(config: configs.DataConfig) -> bool:
    """Return whether a run learns on the validation images too, so that no epoch is chosen."""
    return isinstance(config, configs.ValidationConfig) and config.without_validation


def decoded(task: Task, config: configs.DataConfig) -> Task:
    """Return a task with its image files decoded: see `decoded_once`.

    Raises:
        ValueError: for images that the augmentation is not made for.
    """
    augmentation.check_images(config.augmentation, task.image_shape)
    directory = config.cache_dir if isinstance(config, configs.CacheConfig) else None

    def decode(name: str, split: Split) -> Split:
        return decoded_once(
            split,
            fingerprint=f"{task.fingerprint}/{name}",
            name=f"{task.name}, {name}",
            directory=directory,
        )

    return each_split(task, decode)


def open_task(config: Training, task: Task | None = None) -> Task:
    """Check a config's names, data and models, and return its task.

    Args:
        config: the run's.
        task: the data, in place of those that the config names.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `check`, `load_task`, `check_models`.
    """
    check(config)
    if task is None:
        task = load_task(config)
    else:
        given = limited(task, config)
        task = decoded(without_validation(given) if learns_all(config) else given, config)
    transfer.check(config, task)
    check_models(config, task)
    return task


def digests(config: configs.RunConfig, task: Task) -> dict[str, str]:
    """Return digests of the data and the named files, so that no run resumes with others."""
    found = {"data": task.fingerprint, **transfer.digests(config, task)}
    named = ("teacher", "student", "model", "weights", "teacher_weights", "student_weights")
    files = {name: getattr(config, name, None) for name in named}
    if isinstance(config, configs.TeacherConfig):
        specs = grid.teachers(config)[1:]
        files |= {f"teacher {number}": spec.name for number, spec in enumerate(specs, 2)}
        files |= {f"weights of teacher {n}": spec.weights for n, spec in enumerate(specs, 2)}
    if isinstance(config, configs.CompareConfig):
        files |= {f"weights of {spec}": spec.weights for spec in grid.students(config)}
    for name, given in files.items():
        path = outside.file_of(given or "") or Path(given or "")
        if path.is_file():
            found[name] = file_digest(path)
    return found


def build_model(
    name: str,
    knobs: tuple[str, ...],
    weights: str | None,
    task: Task,
    seed: int,
    *,
    logits: int | None = None,
    precision: str = "float32",
) -> keras.Model:
    """Return a new model, initialised by the seed.

    Args:
        name, knobs, weights: as in a config.
        task: the task that it is for.
        seed: the seed of its weights, and of what is drawn after them.
        logits: their number; None takes one per class.
        precision: Keras' dtype policy of its layers; the logits are float32 under each.
    """
    keras.utils.set_random_seed(seed)
    return _built(Spec(name, knobs, weights), task, logits or task.classes, precision)


def _built(spec: Spec, task: Task, logits: int, precision: str) -> keras.Model:
    if spec.name.lower().endswith(KERAS):
        return _from_file(spec.name, task, logits)
    with building(precision):
        return models.build(
            spec.name,
            input_shape=task.image_shape,
            classes=logits,
            weights=spec.weights,
            **configs.parse_knobs("knobs", spec.knobs),
        )


def _from_file(path: str, task: Task, logits: int) -> keras.Model:
    model = read_any(path)
    shape = tuple(taps.input_spec(model).shape[1:])
    if shape == task.image_shape:
        return new_head.for_classes(model, logits)
    if None in shape and shape[-1] == task.image_shape[-1]:
        inputs = keras.Input(task.image_shape, name="image")
        return new_head.for_classes(model, logits, inputs, inputs)
    raise ValueError(
        f"{path} takes images {shape}, but the task {task.name!r} has images {task.image_shape}."
    )


def roles(
    config: configs.TeachingConfig, spec: Spec, student: keras.Model, teacher: Any, task: Task
) -> methods.Roles:
    """Return the models of a run for a plan, which may build more of them.

    Args:
        config: the run's config.
        spec: the spec of the student.
        student: just built with the seed of its training; further models continue its draws.
        teacher: a Keras model.
        task: the task that the models are for.
    """

    logits = int(student.output_shape[-1])

    def build(text: str | None) -> keras.Model:
        named = spec if text is None else grid.parse_spec("models", text)
        return _built(named, task, logits, config.precision)

    def untrained(logits: int) -> keras.Model:
        return _built(grid.teachers(config)[0], task, logits, config.precision)

    return roles_of(
        student,
        teacher,
        build=build,
        build_teacher=None if exists(grid.teachers(config)[0], config) else untrained,
        epochs=config.head_epochs + config.epochs,
        teacher_epochs=config.teacher_epochs,
    )


def plan(config: configs.SettingConfig, *, epochs: int) -> methods.Plan:
    """Return the plan of a new method with the config's knobs."""
    knobs = configs.parse_knobs("method_knobs", config.method_knobs)
    last = config.temperature_end if isinstance(config, configs.DistillConfig) else None
    if config.temperature is not None or last is not None:
        first = config.temperature
        if first is None:
            first = methods.knobs_of(config.method).get("temperature", 1.0)
        knobs["temperature"] = _scheduled(first, last, epochs)
    plan = methods.as_plan(methods.get(config.method, **knobs))
    if isinstance(config, configs.PretrainConfig):
        return Pretraining(plan, epochs=config.pretrain_epochs)
    return plan


def alpha(config: configs.SettingConfig, *, epochs: int) -> Any:
    """Return the labels' weight, or its schedule; the method's own if the config gives none."""
    last = config.alpha_end if isinstance(config, configs.DistillConfig) else None
    first: Any = config.alpha
    if first is None:
        first = plan(config, epochs=epochs).default_alpha
        first = first if last is None else schedules.value_at(first, 0)
    return _scheduled(first, last, epochs)


def _scheduled(first: Any, last: float | None, epochs: int):
    return first if last is None else schedules.Linear(first, last, epochs)


def open_sweep(config: grid.Sweep, task: Task | None = None) -> tuple[grid.Sweep, Task]:
    """Return a sweep's config, with `all` replaced by the methods it stands for, and its task.

    Methods that do not fit are logged with the reason. A method with several names counts once.

    Args:
        config: the sweep's.
        task: the data, in place of those that the config names.

    Raises:
        ValueError, FileNotFoundError, ConnectionError: as `open_task`.

    Example:
        >>> from kd_keras.config import CompareConfig
        >>> config, task = open_sweep(CompareConfig(methods=("all",), students=("mlp:hidden=8,",)))
        >>> "rkd" in config.methods, "at" in config.methods  # which compares maps
        (True, False)
    """
    if not isinstance(config, CompareConfig) or ALL not in config.methods:
        return config, open_task(config, task)
    others = tuple(text for text in config.methods if text != ALL)
    # errors that do not depend on the method are raised here
    task = open_task(dataclasses.replace(config, methods=others or ("kd",)), task)
    fitting = []
    for name in every_method():
        reason = misfit(dataclasses.replace(config, methods=(name,)), task)
        if reason is None:
            fitting.append(name)
        else:
            log.warning("%s is left out: %s", name, reason)
    chosen = tuple(dict.fromkeys((*fitting, *others)))
    return dataclasses.replace(config, methods=chosen), task


def every_method() -> list[str]:
    """Return the name of every method, once for those with several names.

    Example:
        >>> every_method()[:2]
        ['kd', 'function_matching']
    """
    names = {kind: name for name, kind in reversed(METHODS.items())}.values()
    return list(reversed(names))


def misfit(config: configs.TeachingConfig, task: Task) -> str | None:
    """Return why the method of a config fits neither its models nor its data; None if it does.

    Args:
        config: a config that is right but for its method, which is the only one.
        task: the task.

    Raises:
        FileNotFoundError, ConnectionError: as `open_task`.

    Example:
        >>> from kd_keras.config import DistillConfig
        >>> config = DistillConfig(method="hint", student_knobs=("hidden=8,",))
        >>> misfit(config, load_task(config))
        "Hint: Model 'mlp' has no tap 'stage2'. ..."
        >>> misfit(dataclasses.replace(config, method="kd"), load_task(config)) is None
        True
    """
    try:
        check(config)
        transfer.check(config, task)
        check_models(config, task)
    except ValueError as error:
        return str(error)
    return None


def check_stages(
    plans: Iterable[tuple[str, Sequence[Stage]]],
    teacher: keras.Model,
    config: configs.TeachingConfig,
    task: Task,
) -> None:
    """Build the methods of all stages, for their students and teachers.

    Args:
        plans: the name of every plan that will be run, and its stages.
        teacher: the run's teacher; a plan in which nobody learns from it is logged.
        config, task: the run's.

    Raises:
        ValueError: for taps that a model does not have, features that a method cannot match, peers
            that differ, or predictions that take more than the limit.
    """
    taught: dict[int, tuple[Any, list[Stage]]] = {}  # by teacher: the stages that use it
    for name, plan in plans:
        learning = [stage for stage in plan if _asks(stage)]
        if not any(stage.teacher is teacher for stage in learning):
            log.info("%s does not use the teacher, which is there only for comparison.", name)
        for stage in learning:
            taught.setdefault(id(stage.teacher), (stage.teacher, []))[1].append(stage)
        for stage in plan:
            if stage.method is not None:
                stage.method.check_batch(config.batch_size)
            _check_alone(stage, config)
    for given, stages in taught.values():
        _check_taught(given, stages, config, task)


def _asks(stage: Stage) -> bool:
    """Return whether a stage's student learns from a teacher."""
    return stage.method is not None and bool(stage.method.teacher_taps) and not stage.peers


def _check_alone(stage: Stage, config: configs.TeachingConfig) -> None:
    """Check a stage without a teacher: from peers, from itself, or from labels alone."""
    if stage.peers:
        if config.head_epochs:
            for peer in stage.peers:
                freezing.unfreeze(peer, config.unfreeze_blocks)
        MutualDistiller(students=[stage.student, *stage.peers], method=stage.method)
    elif stage.method is not None and not _asks(stage):
        _build(stage.student, stage.method, as_source(None, ()))


def _check_taught(
    teacher: Any, stages: list[Stage], config: configs.TeachingConfig, task: Task
) -> None:
    """Check the stages of one teacher, whose predictions for all of them must fit the limit."""
    methods = [(stage.student, stage.method) for stage in stages if stage.method is not None]
    wanted = dict.fromkeys(tap for _, method in methods for tap in method.teacher_taps)
    source = as_source(teacher, tuple(wanted))
    for seen in {teacher_predictions.as_seen(config, method).augmentation for _, method in methods}:
        teacher_predictions.plan(source, dataclasses.replace(config, augmentation=seen), task)
    for student, method in methods:
        _build(student, method, source)


def _build(student: keras.Model, method: Method, source: TeacherSource) -> None:
    if method.built:
        return
    try:
        extractor = taps.FeatureExtractor(student, dict.fromkeys((*method.student_taps, "logits")))
        method.adopt(source.behind)
        method.prepare(extractor.shapes, source)
    except ValueError as error:  # it does not name the method
        raise ValueError(f"{type(method).__name__}: {error}") from error
