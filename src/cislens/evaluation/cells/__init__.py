"""Whether a representation knows a cell type that it has not seen."""
