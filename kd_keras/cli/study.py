"""The command `study`."""

import dataclasses
import logging
from collections.abc import Sequence
from typing import Annotated

import tyro

from kd_keras.cli.output import counted
from kd_keras.config import StudyConfig
from kd_keras.utils.checks import lookup

log = logging.getLogger("kd_keras")

STUDIES = ("mnist", "mhist", "cifar")  # by name, known before TensorFlow is loaded


@dataclasses.dataclass(frozen=True, kw_only=True)
class StudyCommand(StudyConfig):
    """Run a whole study, mnist, mhist or cifar, and write a page of its tables and plots.

    Finished runs are not repeated: after an interruption the same command resumes.
    """

    study: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="STUDY")]
    """The study: mnist, mhist or cifar."""

    @property
    def opening(self) -> str:
        parts = f", {counted(len(self.part), 'part')}" if self.part else ""
        return f"study {self.study}{parts}, in {self._config.folder}"

    @property
    def _config(self) -> StudyConfig:
        fields = dataclasses.fields(StudyConfig)
        return StudyConfig(**{field.name: getattr(self, field.name) for field in fields})

    def early(self, arguments: Sequence[str]) -> "StudyCommand":
        """Check the name of the study, before TensorFlow is loaded.

        Raises:
            ValueError: there is no such study.
        """
        lookup("study", dict.fromkeys(STUDIES), self.study)
        return self

    def __call__(self) -> None:
        from kd_keras import studies
        from kd_keras.recipes.progress import Progress

        page = studies.run(studies.STUDIES[self.study], self._config, Progress())
        print(f"study in {self._config.folder}, page in {page}")
