"""How well models predict the measured tracks of windows that they have not seen."""
