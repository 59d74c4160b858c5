"""The loop of a user of PyTorch, with a teacher or without; `benchmarks.torch_side` starts it.

It has its own process, since the threads of two libraries in one process slow each other down.
It first prints the number of the student's weights. Then, for every line that it reads, it trains
an epoch and prints the seconds.
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
    """Train a model, an epoch for every line of the input.

    Args:
        student: a name in `benchmarks.torch_models.MODELS`.
        teacher: another, which is run at every step to teach the student; None for labels alone.
        size: height and width of the random images.
        channels: of the images.
        classes: the number of classes.
        examples: images per epoch.
        batch_size: images per step.
        optimizer: adam, or sgd with momentum.
        dtype: float32, or bfloat16 by autocast.
        threads: threads of PyTorch; None for its own choice.
    """

    student: str
    size: int
    channels: int
    classes: int
    examples: int
    batch_size: int
    teacher: str | None = None
    optimizer: Literal["adam", "sgd"] = "adam"
    dtype: Literal["float32", "bfloat16"] = "float32"
    threads: int | None = None


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


def prepared(settings: Settings) -> tuple[int, Callable[[], None]]:
    """Return the number of the student's weights, and a function that trains for an epoch."""
    torch = need_torch()
    from benchmarks import torch_models

    if settings.threads is not None:
        torch.set_num_threads(settings.threads)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    torch.manual_seed(0)
    # as TensorFlow does: the moments of dead units decay into denormal numbers, for which a
    # processor takes a hundred times as long
    torch.set_flush_denormal(True)
    layout = torch.channels_last  # the faster one on processors
    about = (settings.channels, settings.size, settings.classes)
    model = torch_models.build(settings.student, *about).to(device, memory_format=layout).train()
    optimizer = torch_models.optimizer_of(settings.optimizer, model)
    teacher = None
    if settings.teacher is not None:
        teacher = torch_models.build(settings.teacher, *about)
        teacher = teacher.to(device, memory_format=layout).eval()
    rng = np.random.default_rng(0)
    shape = (settings.examples, settings.size, settings.size, settings.channels)
    x = rng.integers(0, 256, shape, dtype="uint8")
    y = rng.integers(0, settings.classes, settings.examples)
    # (n, channels, height, width), with the channels last in memory
    images = torch.from_numpy(x).to(device).permute(0, 3, 1, 2)
    labels = torch.from_numpy(y).to(device)
    half = settings.dtype == "bfloat16"
    hard_loss = torch.nn.CrossEntropyLoss()

    def loss_of(seen, logits, wanted):
        hard = hard_loss(logits, wanted)
        if teacher is None:
            return hard
        with torch.no_grad():
            soft = torch.log_softmax(teacher(seen) / 4, 1)
        ours = torch.log_softmax(logits / 4, 1)
        soft_loss = torch.nn.functional.kl_div(ours, soft, reduction="batchmean", log_target=True)
        return 0.1 * hard + 0.9 * 16 * soft_loss

    def epoch() -> None:
        total, right = torch.zeros((), device=device), torch.zeros((), device=device)
        for rows in torch.randperm(len(images), device=device).split(settings.batch_size):
            with torch.autocast(device, torch.bfloat16) if half else contextlib.nullcontext():
                seen = images[rows].float() / 255
                logits = model(seen)
                loss = loss_of(seen, logits, labels[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            # Keras tracks these two numbers as well
            total += loss.detach()
            right += (logits.argmax(1) == labels[rows]).sum()
        # reading them waits for the last step, on a GPU too
        total.item(), right.item()

    return torch_models.parameters(model), epoch


def main(settings: Settings) -> None:
    weights, epoch = prepared(settings)
    print(weights, flush=True)
    for _ in sys.stdin:
        start = time.perf_counter()
        epoch()
        print(time.perf_counter() - start, flush=True)


if __name__ == "__main__":
    main(tyro.cli(Settings, prog="python -m benchmarks.torch_loop", description=__doc__))
