"""The command that measures speed on this machine."""

import dataclasses

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import BenchmarkConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(BenchmarkConfig):
    """Time the student alone, distillation on stored predictions, and the teacher's pass.

    Images are random, since speed does not depend on them. The README's table is measured by the
    scripts in `benchmarks/`.
    """

    explain: bool = False
    """Also time the other ways of running a step, and the teacher in bfloat16."""
    json: bool = False
    """Print the figures as JSON."""

    @property
    def opening(self) -> str:
        return f"timing {self.student} alone, and with {self.teacher} as its teacher"

    def __call__(self) -> None:
        from kd_keras.recipes import benchmark

        found = benchmark.run(config_of(BenchmarkConfig, self), explain=self.explain)
        print_json(found) if self.json else print(benchmark.as_text(found))
