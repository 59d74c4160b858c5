"""Hyper-parameter searches for distillation, with KerasTuner."""
