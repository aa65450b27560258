"""For who teaches: which exercises are solved, copies for students, running them apart.

Two commands:

    python -m llm_course.classroom.progress       which exercises are solved here
    python -m llm_course.classroom.student DIR    copies of the notebooks for a class
"""
