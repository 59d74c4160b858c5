"""How a step is run on this machine: execution, fused kernels, patching of calls."""
