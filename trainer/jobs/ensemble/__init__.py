"""``job=ensemble``: several networks whose predictions are averaged, saved as one checkpoint."""
