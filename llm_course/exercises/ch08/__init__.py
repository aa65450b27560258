"""Checks of the exercises of chapter 08, on many requests at once."""

EXERCISES = ("pages", "goodput", "lru", "hunt")
