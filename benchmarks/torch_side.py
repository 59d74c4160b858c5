"""A side of a comparison that runs in PyTorch, in a process that stays open."""

import subprocess
import sys

from benchmarks import results
from benchmarks.workloads import Pair


class TorchLoop:
    """A side that trains two epochs with `benchmarks.torch_loop`.

    Args:
        pair: the models, the images and the optimizer.
        count: images per epoch.
        dtype: float32 or bfloat16.
        teach: whether the teacher runs at every step; the student learns from labels alone if not.
        weights: the number of the student's weights here, which must be that of the other model.
    """

    def __init__(
        self, pair: Pair, count: int, *, dtype: str = "float32", teach: bool = False, weights: int
    ):
        height, _, channels = pair.shape
        options = {
            "student": pair.torch_student,
            "size": height,
            "channels": channels,
            "classes": pair.classes,
            "examples": count,
            "batch-size": pair.batch_size,
            "optimizer": pair.optimizer,
            "dtype": dtype,
            **({"teacher": pair.teacher} if teach else {}),
            **({"threads": pair.threads} if pair.threads else {}),
        }
        command = [sys.executable, "-m", "benchmarks.torch_loop"]
        command += [f"--{name}={value}" for name, value in options.items()]
        pipe = subprocess.PIPE
        self._process = subprocess.Popen(
            command, cwd=results.ROOT, stdin=pipe, stdout=pipe, text=True
        )
        theirs = int(self._answer())
        if theirs != weights:
            self.close()
            raise ValueError(f"The models differ: {weights} weights here, {theirs} in PyTorch.")
        self()  # drop the first epochs, as on the other side

    def __call__(self) -> list[float]:
        return [self._epoch(), self._epoch()]

    def _epoch(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._answer())

    def _answer(self) -> str:
        assert self._process.stdout is not None
        answer = self._process.stdout.readline()
        if not answer:
            raise RuntimeError(f"The PyTorch loop ended with code {self._process.wait()}.")
        return answer

    def close(self) -> None:
        """End the process."""
        self._process.communicate()
