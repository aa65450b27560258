"""Checks of the exercises of 05_generate."""

from llm_course.exercises.ch05 import beam, frequency, gumbel, hunt, stop, typical

EXERCISES = (frequency, gumbel, typical, stop, beam, hunt)
