"""The distillation methods of the literature, by name: losses, and plans of several trainings.

A new loss needs a formula in `losses`, a class in one of these files, one line in `METHODS`, tests,
and one row in the docs. A plan needs a class in `plans`, and the same line, tests and row.
"""

import inspect
from typing import Any

from kd_keras.config import parse_knobs
from kd_keras.methods.base import Method
from kd_keras.methods.branches import StudentBranches
from kd_keras.methods.causal import CID
from kd_keras.methods.compose import LogitStandardisation, Sum
from kd_keras.methods.contrastive import CRD
from kd_keras.methods.decision import DeiT
from kd_keras.methods.exits import BYOT
from kd_keras.methods.feature import VID, AttentionTransfer, CosineHint, Hint, HintStage
from kd_keras.methods.keras_loss import KerasLoss
from kd_keras.methods.levels import MLKD
from kd_keras.methods.normalised import SRD
from kd_keras.methods.plans.assistants import TAKD
from kd_keras.methods.plans.base import OneTraining, Plan, plan_of
from kd_keras.methods.plans.early_stopped import ESKD
from kd_keras.methods.plans.fitnets import FitNets
from kd_keras.methods.plans.friendly import SFTN
from kd_keras.methods.plans.generations import BornAgain, BornAgainLabels
from kd_keras.methods.plans.mutual import DML
from kd_keras.methods.plans.stages import Choice, Roles, Stage
from kd_keras.methods.plans.subclass import Subclass, SubclassBaseline
from kd_keras.methods.regression import Compression, LogitRegression, ProbabilityRegression
from kd_keras.methods.relation import PKT, RKD, SimilarityPreserving
from kd_keras.methods.response import (
    DIST,
    DKD,
    KD,
    BornAgainKD,
    EarlyStoppedKD,
    Extractive,
    FitNetsKD,
    FunctionMatching,
    TwoTemperatures,
)
from kd_keras.methods.reused import SimKD
from kd_keras.methods.review import ReviewKD
from kd_keras.methods.subclass import SubclassKD, SubclassTeacher, SubclassTeacherLoss
from kd_keras.methods.transformed import WTTM
from kd_keras.utils.checks import lookup, unknown
from kd_keras.utils.specs import parts_of

METHODS: dict[str, type[Method] | type[Plan]] = {
    "kd": KD,  # Hinton, Vinyals and Dean 2015
    "function_matching": FunctionMatching,  # Beyer et al. 2022; mixed images, no labels
    "compression": Compression,  # Bucila, Caruana, Niculescu-Mizil 2006; no labels
    "logit_regression": LogitRegression,  # Ba and Caruana 2014
    "probability_regression": ProbabilityRegression,  # Bucila, Caruana, Niculescu-Mizil 2006
    "extractive": Extractive,  # Kobayashi 2022, after others' accounts
    "two_temperatures": TwoTemperatures,  # Hinton's, with one temperature per side
    "dkd": DKD,  # Zhao et al. 2022
    "dist": DIST,  # Huang et al. 2022
    "mlkd": MLKD,  # Jin, Wang and Lin 2023
    "wttm": WTTM,  # Zheng and Yang 2024
    "deit": DeiT,  # Touvron et al. 2021, hard labels and a distillation token
    "logit_standardisation": LogitStandardisation,  # Sun et al. 2024
    "hint": Hint,  # FitNets in a single stage
    "cosine": CosineHint,  # Sanh et al. 2019, Ranzinger et al. 2024; through a projection
    "fitnets": FitNets,  # Romero et al. 2015
    "at": AttentionTransfer,  # Zagoruyko and Komodakis 2017
    "sp": SimilarityPreserving,  # Tung and Mori 2019
    "pkt": PKT,  # Passalis and Tefas 2018
    "vid": VID,  # Ahn et al. 2019
    "reviewkd": ReviewKD,  # Chen et al. 2021
    "simkd": SimKD,  # Chen et al. 2022, the teacher's classifier reused
    "srd": SRD,  # Miles and Mikolajczyk 2024
    "rkd": RKD,  # Park et al. 2019
    "cid": CID,  # Deng and Zhang 2021
    "crd": CRD,  # Tian et al. 2020
    "subclass": Subclass,  # Mueller, Kornblith and Hinton 2020
    "subclass_baseline": SubclassBaseline,  # the baseline of `subclass`
    "eskd": ESKD,  # Cho and Hariharan 2019
    "takd": TAKD,  # Mirzadeh et al. 2020
    "sftn": SFTN,  # Park et al. 2021
    "born_again": BornAgain,  # Furlanello et al. 2018, BAN
    "born_again_labels": BornAgainLabels,  # the same, BAN+L
    "dml": DML,  # Zhang et al. 2018, deep mutual learning
    "byot": BYOT,  # Zhang et al. 2019, be your own teacher
}


def get(name: str, **knobs) -> Method | Plan:
    """Make the loss or the plan of that name with the given knobs; `method` may be given by name.

    Raises:
        ValueError: for an unknown name or knob; the message suggests the nearest known one.

    Example:
        >>> import kd_keras as kd
        >>> kd.methods.get("kd", temperature=2.0).temperature
        2.0
        >>> kd.methods.get("takd", method="dkd(temperature=2.0)").loss.temperature
        2.0
        >>> kd.methods.get("logit_standardisation", method="dkd").inner.needs_labels
        True
    """
    method = lookup("method", METHODS, name)
    known = knobs_of(name)
    for knob in knobs:
        if knob not in known:
            raise ValueError(unknown(f"knob of method {name!r}:", knob, known))
    if isinstance(knobs.get("method"), str):
        inner, *options = parts_of(knobs["method"])
        knobs["method"] = get(inner, **parse_knobs("method", tuple(options)))
    return method(**knobs)


def as_plan(method: Any) -> Plan:
    """Return a plan for a method's name, a loss, or a distillation loss of Keras; a plan as is.

    Raises:
        ValueError: for anything else.

    Example:
        >>> as_plan("kd").loss.temperature
        4.0
    """
    return plan_of(get(method) if isinstance(method, str) else method)


def knobs_of(name: str) -> dict[str, Any]:
    """Return a method's own arguments with their defaults."""
    signature = inspect.signature(lookup("method", METHODS, name).__init__)
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    own = [p for p in signature.parameters.values() if p.kind in kinds and p.name != "self"]
    return {parameter.name: parameter.default for parameter in own}


__all__ = [
    "AttentionTransfer",
    "BYOT",
    "BornAgain",
    "BornAgainKD",
    "BornAgainLabels",
    "CID",
    "CRD",
    "Choice",
    "Compression",
    "CosineHint",
    "DIST",
    "DKD",
    "DML",
    "DeiT",
    "ESKD",
    "EarlyStoppedKD",
    "Extractive",
    "FitNets",
    "FitNetsKD",
    "FunctionMatching",
    "Hint",
    "HintStage",
    "KD",
    "KerasLoss",
    "LogitRegression",
    "LogitStandardisation",
    "METHODS",
    "MLKD",
    "Method",
    "OneTraining",
    "PKT",
    "Plan",
    "ProbabilityRegression",
    "RKD",
    "ReviewKD",
    "Roles",
    "SFTN",
    "SRD",
    "SimKD",
    "SimilarityPreserving",
    "Stage",
    "StudentBranches",
    "Subclass",
    "SubclassBaseline",
    "SubclassKD",
    "SubclassTeacher",
    "SubclassTeacherLoss",
    "Sum",
    "TAKD",
    "TwoTemperatures",
    "VID",
    "WTTM",
    "as_plan",
    "get",
    "knobs_of",
]
