"""The engine: what a run is, the loop, evaluation, and the checkpoint format."""
