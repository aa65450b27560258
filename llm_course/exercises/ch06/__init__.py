"""Checks of the exercises of 06_kv_cache."""

from llm_course.exercises.ch06 import fit, hunt, rows, verify, window

EXERCISES = (fit, rows, window, verify, hunt)
