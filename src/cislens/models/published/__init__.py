"""Weights in the key layouts of published models: reading, checking, writing."""
