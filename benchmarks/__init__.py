"""The benchmarks behind the speed tables. Each is one command: `python -m benchmarks.steady`."""

import os

# before TensorFlow is loaded: its start-up messages would clutter the output
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
