"""Progress bars on standard error, where a person watches."""

import contextlib
from collections.abc import Iterator

import keras
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bars


class Progress:
    """Bars, one a training.

    Args:
        show: whether to draw them; they are drawn on a terminal only.
    """

    def __init__(self, show: bool = True):
        console = Console(stderr=True)
        self.drawn = show and console.is_terminal
        self._bars = Bars(
            TextColumn("{task.description:<22}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            TextColumn("{task.fields[numbers]}"),
            console=console,
            disable=not self.drawn,
            transient=True,  # the log keeps a line of each training that is over
        )

    @contextlib.contextmanager
    def bar(self, title: str, epochs: int) -> Iterator[keras.callbacks.Callback]:
        """A callback that moves a bar of so many epochs."""
        task = self._bars.add_task(title, total=epochs, numbers="")

        def move(epoch, logs):
            numbers = " ".join(f"{k} {float(v):.4f}" for k, v in (logs or {}).items())
            self._bars.update(task, completed=epoch + 1, numbers=numbers)

        self._bars.start()
        try:
            yield keras.callbacks.LambdaCallback(on_epoch_end=move)
        finally:
            self._bars.stop()
            self._bars.remove_task(task)

    def say(self, sentence: str) -> None:
        """A line on what is done now."""
        if self.drawn:
            self._bars.console.print(f"{sentence} ...", style="dim")
