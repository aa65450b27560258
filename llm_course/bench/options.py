"""The command line of the benchmark."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from llm_course.bench.results import CONTESTANTS
from llm_course.checkpoints import PINNED_MODELS
from llm_course.programs import MODEL, Parser, whole

FULL = {"rounds": 5, "prompts": [32, 512], "batches": [1, 4, 16], "new_tokens": 64}
QUICK = {"rounds": 3, "prompts": [32], "batches": [1], "new_tokens": 16}


def parse(argv: Sequence[str] | None, what: str) -> argparse.Namespace:
    """`what`: the line that --help starts with."""
    parser = Parser(prog="llm_course.bench", description=what)
    add = parser.add_argument
    add(
        "--model",
        default=MODEL,
        help="the pinned model's name, or a Hugging Face folder",
    )
    add(
        "--contestants",
        nargs="+",
        choices=CONTESTANTS,
        metavar="NAME",
        help=f"default: all that are installed of {', '.join(map(repr, CONTESTANTS))}",
    )
    add("--threads", type=whole(1), help="default: PyTorch's own choice")
    add("--rounds", type=whole(1), help="default: 5")
    add("--prompts", type=whole(1), nargs="+", metavar="TOKENS", help="default: 32 512")
    add(
        "--batches",
        type=whole(1),
        nargs="+",
        metavar="ROWS",
        help="of the first prompt; the others are one row; default: 1 4 16",
    )
    add("--new-tokens", type=whole(1), help="at least 2; default: 64")
    add(
        "--contexts",
        type=whole(1),
        nargs="*",
        default=[64, 2048],
        help="a short and a long one, or none; default: 64 2048",
    )
    add(
        "--all",
        action="store_true",
        help="also what takes minutes: no cache, long, in batches",
    )
    add(
        "--quick",
        action="store_true",
        help="3 rounds, prompt 32, batch 1, 16 new tokens",
    )
    add("--seed", type=int, default=0, help="of the random prompts; default: 0")
    add(
        "--json",
        nargs="?",
        const="-",
        metavar="FILE",
        help="to FILE, or instead of the table",
    )
    add(
        "--figure",
        metavar="FILE",
        help="a picture of the results, for example bench.png",
    )
    args = parser.parse_args(argv)
    for name, value in (QUICK if args.quick else FULL).items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    if args.model not in PINNED_MODELS and not Path(args.model).is_dir():
        parser.error(f"--model {args.model}: neither {MODEL} nor a folder")
    if args.new_tokens < 2:
        parser.error("--new-tokens: at least 2, or there is no time per token")
    if len(args.contexts) not in (0, 2):
        parser.error("--contexts: two of them, or none")
    return args
