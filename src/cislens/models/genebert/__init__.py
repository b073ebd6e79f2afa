"""Sequence and (transcription factor x region) matrices: the models."""
