"""Checks of the exercises of 04_decoder."""

from llm_course.exercises.ch04.bytes import BYTES
from llm_course.exercises.ch04.flops import FLOPS
from llm_course.exercises.ch04.hunt import HUNT
from llm_course.exercises.ch04.load import LOAD
from llm_course.exercises.ch04.prune import PRUNE
from llm_course.exercises.ch04.tied import TIED

EXERCISES = (BYTES, FLOPS, TIED, PRUNE, LOAD, HUNT)
