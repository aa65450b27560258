"""Checks of the exercises of 03_attention_gqa, in the notebook's order."""

EXERCISES = ("pool", "window", "packed", "grouped", "online", "hunt")
