"""How fast the engine is, beside `transformers` on the same weights: `python -m
llm_course.bench`."""
