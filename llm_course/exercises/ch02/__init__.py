"""Checks of the exercises of 02_rope, in the notebook's order."""

EXERCISES = ("complex_pairs", "partial", "rows", "base", "hunt")
