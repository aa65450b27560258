"""A server that answers as OpenAI's does: `python -m llm_course.serve`."""
