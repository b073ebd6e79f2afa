"""What a trained model says of variants of a genome."""
