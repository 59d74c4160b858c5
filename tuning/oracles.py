"""KerasTuner's oracles, which propose settings, by name."""

import math
from collections.abc import Callable, Mapping
from typing import Any

import keras_tuner
from keras_tuner import oracles

from kd_keras.evaluation import metrics
from kd_keras.recipes.runs import NOT_COMPARED
from kd_keras.utils.checks import lookup
from tuning.config import TRIALS, TuneConfig

OBJECTIVES = {name: metrics.METRICS[name] for name in metrics.choices()}

ENDLESS = ("random", "bayesian")  # would never stop: these need a number of trials

Make = Callable[..., keras_tuner.Oracle]


class GridOracle(oracles.GridSearchOracle):
    """A grid search for many workers: KerasTuner's settings, in the same order.

    KerasTuner finds the setting that follows a trial's only when that trial has ended, in case it
    has added hyper-parameters. From the third trial on, one worker would train and the others
    wait. Here the whole space is known beforehand.
    """

    def populate_space(self, trial_id):
        found = super().populate_space(trial_id)
        if found["values"] is not None:
            self._populate_next.append(trial_id)
        return found


class _Most(int):
    """The largest number of trials, printed with four digits.

    KerasTuner makes the names of trials as wide as this number, and they must not change when a
    search is given more trials.
    """

    def __str__(self) -> str:
        return f"{int(self):04d}"


def _up_to_trials(kind: Callable[..., keras_tuner.Oracle]) -> Make:
    def make(config: TuneConfig, **shared) -> keras_tuner.Oracle:
        most = most_trials(config.oracle, config.trials)
        return kind(max_trials=None if most == math.inf else _Most(most), **shared)

    return make


def _hyperband(config: TuneConfig, **shared) -> keras_tuner.Oracle:
    return oracles.HyperbandOracle(
        max_epochs=config.epochs,
        factor=config.factor,
        hyperband_iterations=config.hyperband_iterations,
        **shared,
    )


ORACLES: dict[str, Make] = {
    "random": _up_to_trials(oracles.RandomSearchOracle),
    "grid": _up_to_trials(GridOracle),
    "bayesian": _up_to_trials(oracles.BayesianOptimizationOracle),
    "hyperband": _hyperband,
}


def most_trials(oracle: str, trials: int | None) -> float:
    """Return the largest number of settings that an oracle tries.

    Example:
        >>> most_trials("bayesian", None), most_trials("grid", None), most_trials("grid", 5)
        (20, inf, 5)
    """
    return trials or (TRIALS if oracle in ENDLESS else math.inf)


def extends(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Return True if a search with settings `before` is the beginning of one with settings `now`.

    The oracles' proposals do not depend on the number of trials. If it grows and nothing else
    changes, the search begins with the same trials.

    Example:
        >>> extends({"oracle": "random", "trials": 5}, {"oracle": "random", "trials": None})
        True
    """
    changed = {name for name in {*before, *now} if before.get(name) != now.get(name)}
    if not changed <= {"trials", *NOT_COMPARED}:
        return False
    had, has = (most_trials(x["oracle"], x["trials"]) for x in (before, now))
    return has > had


def check(config: TuneConfig) -> None:
    """Raise `ValueError` for an oracle or an objective that does not exist."""
    lookup("oracle", ORACLES, config.oracle)
    if config.objective is not None and config.objective not in OBJECTIVES:
        try:
            lookup("objective", OBJECTIVES, config.objective)
        except ValueError as error:
            raise ValueError(
                f"{error} It must be a validation metric of the student for which larger is "
                "better: the scale of a loss changes with temperature and alpha."
            ) from None


def objective(metric: str) -> keras_tuner.Objective:
    """Return KerasTuner's objective for a metric on validation."""
    return keras_tuner.Objective(f"val_{metric}", direction="max")


def make(config: TuneConfig, metric: str) -> keras_tuner.Oracle:
    """Make the oracle of a config.

    A failed trial is not tried again, since its hyper-parameters would make it fail again.
    """
    made = lookup("oracle", ORACLES, config.oracle)(
        config,
        objective=objective(metric),
        seed=config.seed + 1,  # KerasTuner takes a seed of 0 for none, and draws a random one
    )
    made.verbose = 0  # its messages would go to standard output, among the results
    return made
