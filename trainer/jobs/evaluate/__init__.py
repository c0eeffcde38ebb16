"""``job=evaluate``: evaluate a checkpoint on one split of a data set, or on all."""
