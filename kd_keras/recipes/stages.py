"""The trainings that are planned, each made once and dropped: a fault shows before the first."""

import dataclasses
import logging
from collections.abc import Iterable, Sequence
from typing import Any

import keras

from kd_keras.data.task import Task
from kd_keras.methods import Method, Stage
from kd_keras.models import freezing, taps
from kd_keras.recipes import answers
from kd_keras.teachers import TeacherSource, as_source
from kd_keras.training.mutual import MutualDistiller

log = logging.getLogger(__name__)


def check(
    plans: Iterable[tuple[str, Sequence[Stage]]], teacher: keras.Model, config: Any, task: Task
) -> None:
    """Build the methods of all stages, for their students and teachers.

    Args:
        plans: the name of every plan that is going to be run, and its stages.
        teacher: the run's; one that nobody learns from is logged.
        config, task: the run's.

    Raises:
        ValueError: taps that a model does not have, features that a method cannot bring together,
            peers that differ, answers that take more than the limit.
    """
    taught: dict[int, tuple[Any, list[Stage]]] = {}  # by teacher: who learns from it
    for name, plan in plans:
        learning = [stage for stage in plan if _asks(stage)]
        if not any(stage.teacher is teacher for stage in learning):
            log.info("%s asks nothing of the teacher, which is there to compare with.", name)
        for stage in learning:
            taught.setdefault(id(stage.teacher), (stage.teacher, []))[1].append(stage)
        for stage in plan:
            if stage.method is not None:
                stage.method.check_batch(config.batch_size)
            _check_alone(stage, config)
    for given, stages in taught.values():
        _check_taught(given, stages, config, task)


def _asks(stage: Stage) -> bool:
    """Whether a stage's student learns from a teacher."""
    return stage.method is not None and bool(stage.method.teacher_taps) and not stage.peers


def _check_alone(stage: Stage, config: Any) -> None:
    """What learns from no teacher: from its peers, from itself, or from labels alone."""
    if stage.peers:
        if config.head_epochs:
            for peer in stage.peers:
                freezing.unfreeze(peer, config.unfreeze_blocks)
        MutualDistiller(students=[stage.student, *stage.peers], method=stage.method)
    elif stage.method is not None and not _asks(stage):
        _build(stage.student, stage.method, as_source(None, ()))


def _check_taught(teacher: Any, stages: list[Stage], config: Any, task: Task) -> None:
    """Those who learn from one teacher; what all of them ask of it fits the limit."""
    methods = [(stage.student, stage.method) for stage in stages if stage.method is not None]
    wanted = dict.fromkeys(tap for _, method in methods for tap in method.teacher_taps)
    source = as_source(teacher, tuple(wanted))
    for seen in {answers.as_seen(config, method).augmentation for _, method in methods}:
        answers.plan(source, dataclasses.replace(config, augmentation=seen), task)
    for student, method in methods:
        _build(student, method, source)


def _build(student: keras.Model, method: Method, source: TeacherSource) -> None:
    if method.built:
        return
    try:
        view = taps.TapView(student, dict.fromkeys((*method.student_taps, "logits")))
        method.adopt(source.behind)
        method.prepare(view.shapes, source)
    except ValueError as error:  # which of many, the error cannot know
        raise ValueError(f"{type(method).__name__}: {error}") from error
