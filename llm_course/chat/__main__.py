"""`python -m llm_course.chat`"""

import sys

from llm_course.chat.terminal import main
from llm_course.programs import run_program

if __name__ == "__main__":
    sys.exit(run_program(main))
