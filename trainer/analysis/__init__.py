"""Pure functions of plain values: diagnosis, LR range test, comparison of runs, confidence intervals, predictions."""
