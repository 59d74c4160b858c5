"""`python -m kd_keras` is `kd-keras`."""

import sys

from kd_keras.cli import main

sys.exit(main())
