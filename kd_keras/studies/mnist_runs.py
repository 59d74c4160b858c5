"""What the parts of the study on MNIST share: the student, the budget, and one teacher."""

from collections.abc import Mapping
from typing import Any

from kd_keras.config import CompareConfig, RunConfig, StudyConfig, TrainConfig
from kd_keras.studies import shared
from kd_keras.studies.settings import own

STUDENT = "mlp:hidden=784,784"
BUDGET: dict[str, Any] = {
    "task": "mnist", "epochs": 12, "batch_size": 256, "learning_rate": 1e-3,
}  # fmt: skip
# the run of the teacher that most parts share
TAUGHT = TrainConfig(**BUDGET, model="cnn")


def taught(study: StudyConfig, name: str, config: CompareConfig) -> Mapping[str, RunConfig]:
    """Return a comparison of the teacher's students, and before it the run of the teacher."""
    return shared.taught(study, name, own(study, config), own(study, TAUGHT))
