"""Multi-modal pre-training on sequence and (transcription factor x region) matrices."""
