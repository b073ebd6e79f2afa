"""Anything that turns sequences into features: encoders, their random twins, baselines."""
