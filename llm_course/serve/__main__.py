"""`python -m llm_course.serve`"""

from __future__ import annotations

import sys

from llm_course.programs import complain, run_program

EXTRA = ("fastapi", "starlette", "pydantic", "uvicorn", "prometheus_client")


def start() -> int:
    try:
        from llm_course.serve.program import main
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        complain(
            f"{error.name} is not installed, which the server needs:"
            " python -m pip install -e '.[serve]'"
        )
        return 1
    return main()


if __name__ == "__main__":
    sys.exit(run_program(start))
