"""The knobs of each method that a search varies, and their ranges with sources.

For a method that is not listed, only alpha and the learning rate are varied. The weight of a whole
method has the same effect as alpha. It is varied only if alpha, between 0 and 1, does not reach far
enough: if the authors' weight is large, or if they choose it by the pair of networks.
"""

import dataclasses
from typing import Any


@dataclasses.dataclass(frozen=True)
class Range:
    """The range of one knob, sampled on a logarithmic scale.

    Attributes:
        low, high: the ends.
        default: the method's own default.
        source: the source of default and ends.
    """

    low: float
    high: float
    default: float
    source: str

    def of(self, hp: Any, name: str) -> float | None:
        """Declare a hyper-parameter `name`; return its value, or None if it is inactive."""
        return hp.Float(name, self.low, self.high, sampling="log", default=self.default)


def around(default: float, source: str, factor: float = 10.0) -> Range:
    """Return a range around a paper's value, a factor below and above it.

    Example:
        >>> around(25.0, "Tian et al. 2020").low
        2.5
    """
    return Range(default / factor, default * factor, default, source)


# from no softening to where soft targets amount to logits: Hinton et al. (2015), section 2.1
TEMPERATURE = Range(
    1.0, 64.0, 4.0, "Hinton et al. 2015, section 2.1: from 1 to the limit of high T"
)

KNOBS: dict[str, dict[str, Range]] = {
    "kd": {"temperature": TEMPERATURE},
    "two_temperatures": {
        "teacher_temperature": TEMPERATURE,
        "student_temperature": around(1.0, "1 is the temperature at which it is deployed", 4.0),
    },
    "dkd": {
        "temperature": TEMPERATURE,
        "other_weight": around(
            8.0, "beta of Zhao et al. 2022, in their code 2 to 8 by the pair", 8.0
        ),
    },
    "dist": {
        "temperature": TEMPERATURE,
        "intra_weight": around(1.0, "gamma of Huang et al. 2022, beside beta = 1", 4.0),
    },
    "mlkd": {
        "temperature": TEMPERATURE,
        "class_weight": around(1.0, "Jin et al. 2023; it grows with the square of the batch"),
    },
    "wttm": {
        "gamma": Range(0.1, 0.8, 0.25, "Zheng and Yang 2024, 0.1 to 0.8 by the pair"),
        "beta": Range(1.4, 16.0, 3.0, "Zheng and Yang 2024, 1.4 to 16 by the pair"),
    },
    "logit_standardisation": {
        "weight": around(9.0, "Sun et al. 2024, 6 to 18 by the pair", 3.0),
    },
    "hint": {"weight": around(100.0, "the code of Tian et al. 2020")},
    "cosine": {"weight": around(1.0, "a choice of ours: the loss lies between 0 and 2")},
    "fitnets": {
        # not its weight, which follows the authors' schedule and falls over the epochs
        "temperature": Range(1.0, 16.0, 3.0, "Romero et al. 2015: 3"),
    },
    "at": {"weight": around(1000.0, "the code of Zagoruyko and Komodakis 2017")},
    "sp": {"weight": around(3000.0, "Tung and Mori 2019")},
    "pkt": {"weight": around(30000.0, "the code of Tian et al. 2020")},
    "vid": {"weight": around(1.0, "the code of Tian et al. 2020")},
    "reviewkd": {
        "weight": Range(0.6, 8.0, 1.0, "the code of Chen et al. 2021, 0.6 to 8 by the pair"),
    },
    "srd": {
        "feature_weight": around(2.0, "the code of Miles and Mikolajczyk 2024"),
        "exponent": Range(2.0, 8.0, 4.0, "the code of Miles and Mikolajczyk 2024: 4"),
    },
    "rkd": {
        "distance_weight": around(25.0, "the code of Tian et al. 2020"),
        "angle_weight": around(50.0, "the code of Tian et al. 2020"),
    },
    "cid": {
        "feature_weight": Range(1.0, 100.0, 10.0, "Deng and Zhang 2021, 8 to 65 by the pair"),
        "class_weight": around(1.0, "Deng and Zhang 2021, beside an answer_weight of 1"),
    },
    "crd": {"weight": around(0.8, "Tian et al. 2020")},
    "subclass": {"temperature": TEMPERATURE},
}
