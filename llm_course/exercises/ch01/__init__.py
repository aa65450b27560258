"""Checks of the exercises of 01_rmsnorm."""

from llm_course.exercises.ch01 import backward, fold, grouped, hunt, lean

EXERCISES = (fold, grouped, lean, backward, hunt)
