"""Checks of the exercises of 05_generate, in the notebook's order."""

EXERCISES = ("frequency", "gumbel", "typical", "stop", "beam", "hunt")
