"""Checks of the exercises of chapter 07, on kernels and quantization."""

from llm_course.exercises.ch07.guess import GUESS
from llm_course.exercises.ch07.hunt import HUNT
from llm_course.exercises.ch07.outliers import OUTLIERS
from llm_course.exercises.ch07.product import PRODUCT
from llm_course.exercises.ch07.symmetric import SYMMETRIC

EXERCISES = (SYMMETRIC, PRODUCT, OUTLIERS, GUESS, HUNT)
