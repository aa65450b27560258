"""Checks of the exercises of 04_decoder."""

from llm_course.exercises.ch04 import bytes, flops, hunt, load, prune, tied

EXERCISES = (bytes, flops, tied, prune, load, hunt)
