"""FinDNA: encoders of DNA that are trained by self-distillation."""
