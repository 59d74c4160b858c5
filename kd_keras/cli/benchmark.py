"""The command that measures speed on the machine at hand."""

import dataclasses

from kd_keras.cli.output import config_of, print_json
from kd_keras.config import BenchmarkConfig


@dataclasses.dataclass(frozen=True, kw_only=True)
class Benchmark(BenchmarkConfig):
    """Time the student alone, distillation on stored answers, and the teacher's pass.

    Images are drawn, since speed does not depend on them. What the README's table holds is
    measured by the scripts in `benchmarks/`.
    """

    explain: bool = False
    """Also time the ways of running a step that were not chosen, and the teacher in bfloat16."""
    json: bool = False
    """Print the figures as JSON."""

    def __call__(self) -> None:
        from kd_keras.recipes import benchmark

        found = benchmark.run(config_of(BenchmarkConfig, self), explain=self.explain)
        print_json(found) if self.json else print(benchmark.as_text(found))
