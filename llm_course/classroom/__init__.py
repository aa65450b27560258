"""For who teaches: which exercises are solved, copies for students, exercises run
apart.

python -m llm_course.classroom.progress     which exercises the notebooks here have
solved python -m llm_course.classroom.student DIR  copies of the notebooks for a class
"""
