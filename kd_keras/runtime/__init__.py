"""Run steps on this machine: execution, fused kernels, patching of calls."""
