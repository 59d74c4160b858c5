"""Whole studies: many runs behind one command, and one page of tables and plots about them."""

from kd_keras.studies.cifar import CIFAR
from kd_keras.studies.mhist import MHIST
from kd_keras.studies.mnist import MNIST
from kd_keras.studies.parts import Part, Plot, Section, Study, Table
from kd_keras.studies.running import run

__all__ = ["Part", "Plot", "STUDIES", "Section", "Study", "Table", "run"]

STUDIES: dict[str, Study] = {study.name: study for study in (MNIST, MHIST, CIFAR)}
