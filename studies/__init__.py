"""Comparisons of plain training and least action, of this clone and not of the wheel."""
