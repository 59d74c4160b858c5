"""The command that shows data before anything is trained on them."""

import dataclasses
from pathlib import Path
from typing import Annotated

import tyro

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import DataConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Data(DataConfig):
    """Check data and show them: counts, what is odd, channels, and a page with sample pictures."""

    given: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="DATA")] = None
    """Your own data, as in `--data`; if neither is given, the data of `--task`."""
    out: Path | None = None
    """HTML page to write; runs/data-<name>.html if not given."""
    json: bool = False
    """Print the results as JSON."""

    @property
    def config(self) -> DataConfig:
        """The data to show.

        Raises:
            ValueError: if the data are named twice.
        """
        if self.given is None:
            return config_of(DataConfig, self)
        if self.data is not None:
            raise ValueError(f"Name the data once. Received: {self.given} and --data {self.data}")
        return dataclasses.replace(config_of(DataConfig, self), data=self.given)

    @property
    def opening(self) -> str:
        return f"{self.config.data or self.task}: checking the data"

    def __call__(self) -> None:
        from kd_keras.recipes import reading, setup
        from kd_keras.report import data_page

        setup.check_data(self.config)
        task = reading.read_task(self.config)
        name = self.config.data_name
        page = data_page.build(task, self.out or Path("runs") / f"data-{name}.html")
        if self.json:
            print_json({**data_page.facts(task), "page": page})
            return
        print(task)
        for number, own in enumerate(data_page.channels(task.train)):
            print(
                f"channel {number}: mean {own['mean']:.1f}, deviation {own['std']:.1f} (0 to 255)"
            )
        print(f"page with sample pictures: {page}")
