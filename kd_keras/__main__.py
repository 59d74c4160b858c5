"""`python -m kd_keras` is `kd-keras`."""

from kd_keras.cli import door

door()
