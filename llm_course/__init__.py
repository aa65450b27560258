"""A Llama-class inference engine, built cell by cell in the notebooks of this course.

`llm_course.models` and `llm_course.engine` are exported from `notebooks/`; edit them
there.
"""

__version__ = "0.1.0"
