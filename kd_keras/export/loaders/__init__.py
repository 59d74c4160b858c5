"""Scripts that load an export without this library; each runs alone, in a new process."""
