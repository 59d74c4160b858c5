"""Scripts that load an export without this library; each is run alone, in a new process."""
