"""Checks of the exercises of 06_kv_cache, in the notebook's order."""

EXERCISES = ("fit", "rows", "window", "verify", "hunt")
