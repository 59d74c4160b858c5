"""Teachers: sources of predictions and features, and teachers of any framework, by `load`."""

from kd_keras.teachers.foreign import is_foreign as is_foreign
from kd_keras.teachers.loading import Input as Input
from kd_keras.teachers.loading import is_foreign_file as is_foreign_file
from kd_keras.teachers.loading import is_given as is_given
from kd_keras.teachers.loading import is_judged as is_judged
from kd_keras.teachers.loading import load as load
from kd_keras.teachers.loading import trainable as trainable
from kd_keras.teachers.sources import AbsentTeacher as AbsentTeacher
from kd_keras.teachers.sources import CachedTeacher as CachedTeacher
from kd_keras.teachers.sources import EnsembleTeacher as EnsembleTeacher
from kd_keras.teachers.sources import LiveTeacher as LiveTeacher
from kd_keras.teachers.sources import NoTeacher as NoTeacher
from kd_keras.teachers.sources import TeacherSource as TeacherSource
from kd_keras.teachers.sources import as_source as as_source
from kd_keras.teachers.sources import models_of as models_of
