"""Checks of the exercises of 05_generate."""

from llm_course.exercises.ch05.beam import BEAM
from llm_course.exercises.ch05.frequency import FREQUENCY
from llm_course.exercises.ch05.gumbel import GUMBEL
from llm_course.exercises.ch05.hunt import HUNT
from llm_course.exercises.ch05.stop import STOP
from llm_course.exercises.ch05.typical import TYPICAL

EXERCISES = (FREQUENCY, GUMBEL, TYPICAL, STOP, BEAM, HUNT)
