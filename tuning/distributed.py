"""`python -m tuning.distributed`: a search with many workers, on one machine or several."""

from kd_keras.cli import door

if __name__ == "__main__":
    door(only="kd_keras.cli.workers:TuneByWorkers")
