"""Checks of the exercises of chapter 08, on many requests at once."""

from llm_course.exercises.ch08 import goodput, hunt, lru, pages

EXERCISES = (pages, goodput, lru, hunt)
