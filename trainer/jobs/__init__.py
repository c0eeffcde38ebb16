"""One file per job; each option is called with the config, the run folder and the overrides, and returns the exit code."""
