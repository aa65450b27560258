"""Measure this engine beside `transformers`, on the real weights, in one run.

    python -m llm_course.bench [--quick] [--threads N]
        [--figure FILE.png] [--json [FILE]]

A run of all cases takes some ten minutes on two cores, `--quick` about one. Other work
on the machine moves the times more than the ratios, which are taken within a round.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

import torch
from tqdm import tqdm

from llm_course.bench import measure, report
from llm_course.bench.contestants import (
    Contestant,
    ours,
    reference_model,
    theirs,
    weight_bytes,
)
from llm_course.bench.results import Results, as_json
from llm_course.checkpoints import PINNED_MODELS, converted_folder, load_pretrained
from llm_course.config import EngineConfig
from llm_course.errors import CheckpointError

MODEL = "smollm2-135m-instruct"
FULL = {"rounds": 5, "prompts": [32, 512], "batches": [1, 8], "new_tokens": 64}
QUICK = {"rounds": 3, "prompts": [32], "batches": [1], "new_tokens": 16}
GROWTH_TOKENS = 16
NO_TRANSFORMERS = (
    "transformers is not installed, so nothing is compared with it: "
    "python -m pip install 'transformers>=5,<6', and run this again."
)


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    def count(text: str) -> int:
        if (number := int(text)) < 1:
            raise argparse.ArgumentTypeError(f"{text} is below 1")
        return number

    parser = argparse.ArgumentParser(
        prog="llm_course.bench", description=__doc__.split("\n")[0]
    )
    add = parser.add_argument
    add(
        "--model",
        default=MODEL,
        help="the pinned model's name, or a Hugging Face folder",
    )
    add("--threads", type=count, help="default: PyTorch's own choice")
    add("--rounds", type=count, help="default: 5")
    add("--prompts", type=count, nargs="+", metavar="TOKENS", help="default: 32 512")
    add("--batches", type=count, nargs="+", metavar="ROWS", help="default: 1 8")
    add("--new-tokens", type=count, help="at least 2; default: 64")
    add("--contexts", type=count, nargs=2, default=[64, 2048], help="default: 64 2048")
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
    return args


def benchmark(args: argparse.Namespace) -> Results:
    """Load the model, let everybody generate the same, and measure."""
    model, _ = load_pretrained(args.model, EngineConfig(device="cpu"))
    folder = (
        converted_folder(args.model)
        if args.model in PINNED_MODELS
        else Path(args.model)
    )
    contestants, notes = ours(model), []
    try:
        contestants += theirs(reference_model(folder))
        theirs_version = version("transformers")
    except ImportError:
        notes.append(NO_TRANSFORMERS)
        theirs_version = None

    vocab = model.config.vocab_size
    cases = [
        measure.make_case(
            contestants,
            vocab,
            p,
            b,
            args.new_tokens,
            everything=args.all,
            seed=args.seed,
        )
        for p in args.prompts
        for b in args.batches
    ]
    contexts = [
        measure.make_case(
            contestants, vocab, p, 1, GROWTH_TOKENS, cached_only=True, seed=args.seed
        )
        for p in args.contexts
    ]
    notes += left_out(contestants, cases)

    everything = [*cases, *contexts]
    with tqdm(
        total=len(everything) * (1 + args.rounds), disable=None, leave=False
    ) as bar:

        def progress(what: str) -> None:
            bar.set_description(what)
            bar.update()

        found = measure.run(
            contestants,
            everything,
            model,
            args.rounds,
            measure.memory_bandwidth(),
            progress=progress,
        )
    machine = {
        "threads": torch.get_num_threads(),
        "processor": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": theirs_version,
        "rounds": args.rounds,
        "seed": args.seed,
    }
    return Results(
        machine=machine,
        model=args.model if args.model in PINNED_MODELS else folder.name,
        weight_bytes=weight_bytes(model),
        cases=found[: len(cases)],
        growth=found[len(cases) :],
        memory=[measure.cache_memory(model, c.prompt, args.new_tokens) for c in cases],
        load=measure.load_seconds(args.model, args.rounds),
        notes=notes,
    )


def left_out(
    contestants: Sequence[Contestant], cases: Sequence[measure.Case]
) -> list[str]:
    """A line for each case in which some contestants would take too long."""
    lines = []
    for case in cases:
        if missing := [c.name for c in contestants if c.name not in case.new_tokens]:
            rows, length = case.prompt.shape
            lines.append(
                f"Left out at prompt {length}, batch {rows}, where it takes long: "
                f"{' and '.join(map(repr, missing))}. --all measures it."
            )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when the model cannot be loaded, or contestants
    disagree."""
    args = parse(argv)
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        results = benchmark(args)
    except (CheckpointError, RuntimeError) as error:
        print(error, file=sys.stderr)
        return 1
    data = json.dumps(as_json(results), indent=2)
    if args.json == "-":
        print(data)
    else:
        print(report.text(results))
        if args.json:
            Path(args.json).write_text(data + "\n", encoding="utf-8")
    if args.figure:
        report.figure(results).savefig(args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(main())
