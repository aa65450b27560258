"""Checks of the exercises of chapter 07, on kernels and quantization."""

from llm_course.exercises.ch07 import guess, hunt, outliers, product, symmetric

EXERCISES = (symmetric, product, outliers, guess, hunt)
