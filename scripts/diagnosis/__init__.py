"""The parts of ``scripts/diagnosis_benchmark.py``."""
