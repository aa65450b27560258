"""The command line of the server."""

from __future__ import annotations

import argparse
import math
import os
from collections.abc import Sequence

from llm_course.programs import Parser, add_model_options, whole

KEY_VARIABLE = "LLM_COURSE_API_KEY"


def seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value <= 86400:
        raise argparse.ArgumentTypeError(
            f"{text[:40]!r}: must be a number of seconds from 0 to 86400"
        )
    return value


def parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """The options. Exits with status 2 and one sentence for a wrong one."""
    parser = Parser(
        prog="llm_course.serve",
        description="Serve a model to many clients, as OpenAI's server does.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add_model_options(parser)
    add = parser.add_argument
    add("--name", help="the model's name for clients; None: that of --model")
    add("--host", default="127.0.0.1", help="0.0.0.0 lets other machines in")
    add("--port", type=whole(0, 65535), default=8000, help="0: any that is free")
    add(
        "--api-key",
        metavar="KEY",
        help=f"what clients have to show; better in the variable {KEY_VARIABLE}, which"
        " the list of processes does not show",
    )
    limits = parser.add_argument_group("limits")
    add = limits.add_argument
    add("--rows", type=whole(1, 4096), default=16, help="answers computed at once")
    add("--queue", type=whole(0), default=256, help="answers that may wait")
    add("--cache", type=whole(1), default=512, metavar="MIB", help="for keys, values")
    add("--step-tokens", type=whole(1), default=256, help="tokens of a step")
    add("--max-body", type=whole(1), default=2**18, metavar="BYTES", help="of a call")
    add(
        "--max-prompt",
        type=whole(1),
        metavar="TOKENS",
        help="None: what the model reads",
    )
    add("--grace", type=seconds, default=30.0, metavar="SECONDS", help="on SIGTERM")
    parser.add_argument(
        "--log-prompts", action="store_true", help="write them to the log"
    )
    args = parser.parse_args(argv)
    if args.api_key is None:
        args.api_key = os.environ.get(KEY_VARIABLE)
    if args.api_key is not None and not (args.api_key and args.api_key.isascii()):
        parser.error("--api-key: must be ASCII characters, and at least one")
    if args.step_tokens < args.rows:
        parser.error(
            f"--step-tokens {args.step_tokens}: must be at least --rows {args.rows},"
            " so that every row gets a token"
        )
    return args
