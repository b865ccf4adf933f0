"""Comparisons of plain training and least action: of this clone, not of the wheel."""
