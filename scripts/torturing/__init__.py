"""What ``scripts/torture.py`` consists of: processes, trials with runs, fuzzed inputs, hostile files, and the tally."""
