"""Hyperparameter search: spaces, stages, samplers, a shared ledger of trials, and what one sees of it."""
