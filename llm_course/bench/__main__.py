"""Measure this engine beside `transformers`, on the real weights, in one run.

    python -m llm_course.bench [--quick] [--threads N]
        [--figure FILE.png] [--json [FILE]]
    python -m llm_course.bench serve ...    (the server under load: bench/serve.py)

A run of all cases takes some twenty minutes on two cores, `--quick` some two. Other
work on the machine moves the times more than the ratios, which are taken within a
round. Every contestant keeps a process with its own copy of the weights: together they
take some 10 GB.
"""

from __future__ import annotations

import argparse
import json
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from llm_course.bench import figure, measure, report, targets
from llm_course.bench.options import parse
from llm_course.bench.passage import PASSAGE
from llm_course.bench.results import (
    LLAMA,
    NATIVE,
    OURS,
    THEIRS,
    Results,
)
from llm_course.bench.team import Team
from llm_course.checkpoints import PINNED_MODELS, load_pretrained
from llm_course.config import EngineConfig
from llm_course.errors import CheckpointError
from llm_course.programs import complain, run_program

GROWTH_TOKENS = 16
MISSING = (
    "{0} is not installed, so nothing is compared with it: python -m pip install '{1}',"
    " and run this again."
)


def who(args: argparse.Namespace) -> tuple[list[str], list[str]]:
    """The contestants that can take part, and a note for those that cannot."""
    names, notes = [*OURS], []
    if find_spec("transformers"):
        names += THEIRS
    else:
        notes.append(MISSING.format("transformers", "transformers>=5,<6"))
    if args.model in PINNED_MODELS:  # whose GGUF file it reads
        if find_spec("llama_cpp"):
            names += LLAMA.values()
        else:
            notes.append(MISSING.format("llama_cpp", "llama-cpp-python>=0.3"))
    if args.contestants:
        names = [name for name in names if name in args.contestants]
    return names, notes


def make_cases(
    args: argparse.Namespace, names: Sequence[str], vocab_size: int
) -> tuple[list[measure.Case], list[measure.Case]]:
    """The cases of the tables, and those of growth with the context."""
    first, *others = args.prompts
    shapes = [(first, batch) for batch in args.batches] + [(p, 1) for p in others]
    given: dict[str, Any] = {"everything": args.all, "seed": args.seed}
    cases = [
        measure.make_case(names, vocab_size, prompt, batch, args.new_tokens, **given)
        for prompt, batch in shapes
    ]
    given["cached_only"] = True
    growth = [
        measure.make_case(names, vocab_size, context, 1, GROWTH_TOKENS, **given)
        for context in args.contexts
    ]
    return cases, growth


def benchmark(args: argparse.Namespace) -> Results:
    """Start everybody, let them generate the same, and measure."""
    model, tokenizer = load_pretrained(args.model, EngineConfig(device="cpu"))
    # a folder may hold no tokenizer
    passage = tokenizer.encode(PASSAGE) if tokenizer else []
    passage = passage[: model.config.max_position_embeddings]
    names, notes = who(args)
    cases, contexts = make_cases(args, names, model.config.vocab_size)
    threads = args.threads or torch.get_num_threads()
    # before the processes: they would only take memory
    load = measure.load_seconds(args.model, args.rounds)
    kinds = [name for name in names if name in (*NATIVE.values(), *LLAMA.values())]
    with (
        Team(names, args.model, threads) as team,
        tqdm(disable=None, leave=False) as bar,
    ):

        def progress(what: str) -> None:
            bar.set_description(what)
            bar.update()

        team.start(progress)
        perplexity = {name: team.perplexity(name, passage) for name in kinds if passage}
        found = measure.run(
            team,
            names,
            [*cases, *contexts],
            model,
            args.rounds,
            warm=len(cases),
            progress=progress,
        )
        read = team.read
    return Results(
        machine=machine(args, threads),
        model=args.model if args.model in PINNED_MODELS else Path(args.model).name,
        read=read,
        cases=found[: len(cases)],
        growth=found[len(cases) :],
        perplexity=perplexity,
        memory=[measure.cache_memory(model, c.prompt, args.new_tokens) for c in cases],
        load=load,
        notes=[*notes, *left_out(names, cases)],
    )


def machine(args: argparse.Namespace, threads: int) -> dict[str, Any]:
    return {
        "threads": threads,
        "processor": platform.machine(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": version("transformers") if find_spec("transformers") else None,
        "llama-cpp-python": version("llama-cpp-python")
        if find_spec("llama_cpp")
        else None,
        "rounds": args.rounds,
        "seed": args.seed,
    }


def left_out(names: Sequence[str], cases: Sequence[measure.Case]) -> list[str]:
    """A line for each case in which some contestants do not take part."""
    lines = []
    for case in cases:
        rows, length = case.prompt.shape
        missing = [name for name in names if name not in case.new_tokens]
        if slow := [repr(n) for n in missing if n not in LLAMA.values()]:
            lines.append(
                f"Left out at prompt {length}, batch {rows}, where it takes long: "
                f"{' and '.join(slow)}. --all measures it."
            )
    return lines


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when the model cannot be loaded, or contestants
    disagree."""
    given = sys.argv[1:] if argv is None else argv
    if given[:1] == ["serve"]:
        from llm_course.bench.serve import main as serve

        return serve(given[1:])
    args = parse(given, __doc__.split("\n")[0])
    if args.threads:
        torch.set_num_threads(args.threads)
    try:
        results = benchmark(args)
    except (CheckpointError, RuntimeError) as error:
        complain(error)
        return 1
    data = json.dumps(targets.as_json(results), indent=2)
    if args.json == "-":
        print(data)
    else:
        print(report.text(results))
        if args.json:
            Path(args.json).write_text(data + "\n", encoding="utf-8")
    if args.figure:
        figure.figure(results).savefig(args.figure)
    return 0


if __name__ == "__main__":
    sys.exit(run_program(main))
