"""Checks of the exercises of 03_attention_gqa."""

from llm_course.exercises.ch03.grouped import GROUPED
from llm_course.exercises.ch03.hunt import HUNT
from llm_course.exercises.ch03.online import ONLINE
from llm_course.exercises.ch03.packed import PACKED
from llm_course.exercises.ch03.pool import POOL
from llm_course.exercises.ch03.window import WINDOW

EXERCISES = (POOL, WINDOW, PACKED, GROUPED, ONLINE, HUNT)
