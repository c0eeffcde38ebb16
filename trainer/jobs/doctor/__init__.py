"""``job=doctor``: checks before training whether a config can learn at all."""
