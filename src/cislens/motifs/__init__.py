"""Motifs, the regions they occur in, and the cell types where these are open."""
