"""Ask two servers the same, by the same client code: their greedy answers must agree.

python tests/handover/compare.py THEIRS OURS
"""

from __future__ import annotations

import sys
import time

import httpx
from openai import OpenAI

MODEL = "smol"
PROMPTS = [
    "The capital of France is",
    "Once upon a time there was",
    "def fibonacci(n):",
    "Water boils at",
    "The three primary colours are",
    "To be, or not to be,",
    "1, 2, 3, 5, 8,",
    "Größe heißt auf Englisch",
]
CHATS = [
    [{"role": "user", "content": "What is the capital of Japan?"}],
    [{"role": "user", "content": "Write a haiku about the sea."}],
    [
        {"role": "system", "content": "Answer in one word."},
        {"role": "user", "content": "Which planet is the largest?"},
    ],
    [
        {"role": "user", "content": "My name is Ada."},
        {"role": "assistant", "content": "Hello, Ada."},
        {"role": "user", "content": "What is my name?"},
    ],
]


def wait_until_ready(url: str, seconds: float = 600.0) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health").status_code == 200:
                return
        except httpx.TransportError:
            pass
        time.sleep(1)
    sys.exit(f"{url} does not answer")


def answers(url: str) -> list[str]:
    """What a server says: the prompts' continuations, then the replies."""
    client = OpenAI(base_url=f"{url}/v1", api_key="none", timeout=600)
    asked = {"model": MODEL, "temperature": 0, "max_tokens": 48}
    texts = [
        client.completions.create(prompt=prompt, **asked).choices[0].text
        for prompt in PROMPTS
    ]
    for chat in CHATS:
        reply = client.chat.completions.create(messages=chat, **asked)
        texts.append(reply.choices[0].message.content or "")
    return texts


def main(theirs: str, ours: str) -> int:
    for url in (theirs, ours):
        wait_until_ready(url)
    pairs = [*zip(answers(theirs), answers(ours), strict=True)]
    for asked, (a, b) in zip([*PROMPTS, *CHATS], pairs, strict=True):
        if a != b:
            print(f"{asked}\n  theirs: {a!r}\n  ours:   {b!r}")
    same = [a == b for a, b in pairs]
    n = len(PROMPTS)
    print(f"prompts: {sum(same[:n])} of {n} equal")
    print(f"chats: {sum(same[n:])} of {len(CHATS)} equal")
    return 0 if all(same) else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
