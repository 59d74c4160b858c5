"""`python -m tuning.distributed`: a search by many workers, on one machine or several."""

import sys

from kd_keras.cli import main
from kd_keras.cli.workers import TuneByWorkers

if __name__ == "__main__":
    sys.exit(main(only=TuneByWorkers))
