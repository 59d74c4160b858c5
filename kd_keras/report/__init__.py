"""A report from run folders alone: one HTML page, and its plots as PNG files beside it.

Text tables come from `kd_keras.table`, so that printing one does not load matplotlib.
"""

from kd_keras.report.pages import build

__all__ = ["build"]
