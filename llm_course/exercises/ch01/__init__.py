"""Checks of the exercises of 01_rmsnorm, in the notebook's order."""

EXERCISES = ("fold", "grouped", "lean", "backward", "hunt")
