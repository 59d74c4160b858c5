"""The command that shows what the models of a run look at."""

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import tyro

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import DataConfig, ExplainConfig
from kd_keras.recipes import finished


@dataclasses.dataclass(frozen=True, kw_only=True)
class Explain(ExplainConfig, DataConfig):
    """Show what the models of a run look at: maps of test images, and how alike they are.

    The data are those that the run was made with, unless others are named.
    """

    run: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of a finished run."""
    out: Path | None = None
    """Folder to write; `explain` in the run folder if not given."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def opening(self) -> str:
        return f"looking at what the models of {self.run} look at"

    def early(self, arguments: Sequence[str]) -> Callable[[], None]:
        """Check the run folder before TensorFlow, which takes seconds to load.

        Raises:
            FileNotFoundError, ValueError: as `finished.check`.
        """
        finished.check(self.run)
        return self.explain

    def explain(self) -> None:
        from kd_keras.recipes import explaining
        from kd_keras.report import explain_page

        out = self.out or self.run / "explain"
        explain_page.check_target(out)
        given = config_of(DataConfig, self)
        data = None if given == DataConfig() else given
        found = explaining.run(self.run, config_of(ExplainConfig, self), data)
        page = explain_page.build(found, out)
        if self.json:
            print_json({**explain_page.facts(found), "page": page})
            return
        print(f"page in {page}")
        print()
        print(explain_page.as_text(found))
