"""`python -m llm_course.chat`"""

import sys

from llm_course.chat.terminal import main

if __name__ == "__main__":
    sys.exit(main())
