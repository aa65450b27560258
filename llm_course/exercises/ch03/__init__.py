"""Checks of the exercises of 03_attention_gqa."""

from llm_course.exercises.ch03 import grouped, hunt, online, packed, pool, window

EXERCISES = (pool, window, packed, grouped, online, hunt)
