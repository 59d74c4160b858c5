"""The loop that a user of PyTorch writes for the student alone; `benchmarks.pytorch` starts it.

It has its own process, since the threads of two libraries in one process slow each other down.
For every line that it reads, it trains an epoch and prints the seconds.
"""

import contextlib
import dataclasses
import sys
import time
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import tyro


@dataclasses.dataclass(frozen=True)
class Settings:
    """Train 784-784-10 with Adam, an epoch for every line of the input.

    Args:
        examples: number of random images of 28x28 pixels.
        batch_size: images per step.
        dtype: float32, or bfloat16 by autocast.
    """

    examples: int
    batch_size: int
    dtype: Literal["float32", "bfloat16"]


def need_torch() -> Any:
    """Import PyTorch, which nothing else here needs."""
    try:
        import torch
    except ImportError as error:
        raise ImportError(
            "This benchmark compares with PyTorch. Install it with `pip install torch` (on a "
            "machine without a GPU with `--index-url https://download.pytorch.org/whl/cpu`)."
        ) from error
    return torch


def make_epoch(settings: Settings) -> Callable[[], None]:
    """Return a function that trains for an epoch."""
    torch = need_torch()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    # as TensorFlow does: the moments of dead units decay into denormal numbers, for which a
    # processor takes a hundred times as long
    torch.set_flush_denormal(True)
    nn = torch.nn
    model = nn.Sequential(
        nn.Flatten(), nn.Linear(784, 784), nn.ReLU(), nn.Linear(784, 784), nn.ReLU(),
        nn.Linear(784, 10),
    ).to(device)  # fmt: skip
    optimizer, loss_of = torch.optim.Adam(model.parameters(), 1e-3), nn.CrossEntropyLoss()
    rng = np.random.default_rng(0)
    x = rng.integers(0, 256, (settings.examples, 28, 28, 1), dtype="uint8")
    y = rng.integers(0, 10, settings.examples)
    images, labels = (torch.from_numpy(array).to(device) for array in (x, y))
    half = settings.dtype == "bfloat16"

    def epoch() -> None:
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        for rows in torch.randperm(len(images), device=device).split(settings.batch_size):
            with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
                logits = model(images[rows].float() / 255)
                loss = loss_of(logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # Keras tracks these two numbers as well
            total += loss.detach()
            right += (logits.argmax(1) == labels[rows]).sum()
        # reading them waits for the last step, on a GPU too
        total.item(), right.item()

    return epoch


def main(settings: Settings) -> None:
    epoch = make_epoch(settings)
    for _ in sys.stdin:
        start = time.perf_counter()
        epoch()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.torch_loop", description=__doc__))
