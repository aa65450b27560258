"""The settings of a chat, and what `/set` makes of a name and a word."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from llm_course.config import GenerationConfig

DEFAULTS = GenerationConfig(max_new_tokens=400, temperature=0.7, top_p=0.9)
NUMBER, WHOLE, SWITCH = "a number", "a whole number", "on or off"
KINDS = {
    "max_new_tokens": WHOLE,
    "do_sample": SWITCH,
    "greedy": SWITCH,  # do_sample, the other way round
    "temperature": NUMBER,
    "top_k": f"{WHOLE}, or off",
    "top_p": f"{NUMBER}, or off",
    "min_p": f"{NUMBER}, or off",
    "repetition_penalty": f"{NUMBER}, or off",
    "seed": f"{WHOLE} from 0 to 2**63 - 1, or off",
    "guess_ahead": f"{WHOLE}, or off",
}
OFF = {
    "top_k": None,
    "top_p": 1.0,
    "min_p": 0.0,
    "repetition_penalty": 1.0,
    "seed": None,
    "guess_ahead": 0,
}
SWITCHES = {"on": True, "true": True, "off": False, "false": False}


def parse_value(name: str, text: str) -> object:
    """The value that `text` gives a setting. Raises ValueError that says what it may
    be."""
    kind, word = KINDS[name], text.lower()
    if name in OFF and word in ("off", "none"):
        return OFF[name]
    try:
        if kind == SWITCH:
            return SWITCHES[word]
        value = float(word) if kind.startswith(NUMBER) else int(word)
        if name == "seed" and not 0 <= value < 2**63:  # what a torch.Generator takes
            raise ValueError
    except (KeyError, ValueError):
        raise ValueError(f"{name} = {text[:40]!r}: must be {kind}") from None
    return value


def change(settings: GenerationConfig, name: str, text: str) -> GenerationConfig:
    """`settings` with one of them changed. Raises ValueError that names the setting and
    the fix."""
    if name not in KINDS:
        raise ValueError(f"There is no setting {name!r}; there are {', '.join(KINDS)}.")
    value = parse_value(name, text)
    if name == "greedy":
        name, value = "do_sample", not value
    try:
        changed: dict[str, Any] = {name: value}
        return replace(settings, **changed)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("GenerationConfig.")) from error


def show(settings: GenerationConfig) -> str:
    """All settings, as `/set` reads them."""
    words = {None: "off", True: "on", False: "off"}
    values = {name: getattr(settings, name) for name in KINDS if name != "greedy"}
    return "\n".join(
        f"{name} {words[v] if v is None or isinstance(v, bool) else v}"
        for name, v in values.items()
    )
