"""The measurements behind the speed tables. Each is one command: `python -m benchmarks.steady`."""

import os

# before TensorFlow is loaded: its start-up lines would stand between the numbers
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
