"""Pure functions of plain values: diagnosis, learning rate range, comparison, intervals."""
