"""The picture that moves on the front page: the model answers a question, and shows at
each step the tokens that it found most likely.

`python -m course_site.steps` (in docs/) computes it anew and stores it in steps.json.
"""

from __future__ import annotations

import html
import json
from pathlib import Path
from typing import Any

STORED = Path(__file__).with_name("steps.json")
QUESTION = "What is a language model? Answer in one sentence."
SHOWN = 5


def compute() -> list[dict[str, Any]]:
    """Each greedy step: the answer so far, and the likeliest tokens in percent."""
    import torch

    from llm_course.checkpoints import load_pretrained
    from llm_course.engine import make_cache, prefill

    model, tokenizer = load_pretrained("smollm2-135m-instruct")
    prompt = tokenizer.encode_chat([{"role": "user", "content": QUESTION}])
    cache, fed, answer, steps = make_cache(model), prompt, [], []
    while not set(answer) & set(tokenizer.eos_token_ids):
        with torch.inference_mode():
            shares = prefill(model, torch.tensor([fed]), cache)[0].softmax(dim=-1)
        best, tokens = shares.topk(SHOWN)
        guesses = [
            [tokenizer.decode([token]), round(100 * share)]
            for token, share in zip(tokens.tolist(), best.tolist(), strict=True)
        ]
        steps.append({"text": tokenizer.decode(answer), "guesses": guesses})
        fed = [int(tokens[0])]
        answer += fed
    return steps


def figure() -> str:
    """The stored steps as HTML: the last one, and all for course.js to play."""
    steps = json.loads(STORED.read_text(encoding="utf-8"))
    data = html.escape(json.dumps(steps, ensure_ascii=False))
    rows = "".join(row(*guess) for guess in steps[-1]["guesses"])
    return (
        f'<figure class="steps" data-steps="{data}">'
        f'<p class="steps-question">{html.escape(QUESTION)}</p>'
        f'<p class="steps-text">{html.escape(steps[-1]["text"])}</p>'
        f"<table><caption>The next token</caption><tbody>{rows}</tbody></table>"
        "</figure>"
    )


def row(token: str, percent: int) -> str:
    """One bar: a token and its share."""
    return (
        f'<tr><th scope="row">{html.escape(token)}</th>'
        f'<td><span style="width: {percent}%"></span></td><td>{percent} %</td></tr>'
    )


if __name__ == "__main__":
    text = ",\n".join(json.dumps(s, ensure_ascii=False) for s in compute())
    STORED.write_text(f"[\n{text}\n]\n", encoding="utf-8")
