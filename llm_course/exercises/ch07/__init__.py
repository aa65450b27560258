"""Checks of the exercises of chapter 07, on kernels and quantization."""

EXERCISES = ("symmetric", "product", "outliers", "guess", "hunt")
