"""Checks of the exercises of 04_decoder, in the notebook's order."""

EXERCISES = ("bytes", "flops", "tied", "prune", "load", "hunt")
