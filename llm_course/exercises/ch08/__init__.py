"""Checks of the exercises of chapter 08, on many requests at once."""

from llm_course.exercises.ch08.goodput import GOODPUT
from llm_course.exercises.ch08.hunt import HUNT
from llm_course.exercises.ch08.lru import LRU
from llm_course.exercises.ch08.pages import PAGES

EXERCISES = (PAGES, GOODPUT, LRU, HUNT)
