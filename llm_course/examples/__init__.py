"""Short scripts that show the whole package at work. Run one with `python -m
llm_course.examples.<name>`."""
