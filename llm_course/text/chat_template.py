"""From a list of chat messages to the text a model was trained on."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain

from llm_course.errors import CheckpointError

# Whose words may name special tokens: the developer's and the model's own. Everybody
# else's may not.
_TRUSTED = ("system", "assistant")


def check_messages(messages: Sequence[dict[str, str]]) -> None:
    """Raise ValueError for a message of another form than {"role": …, "content": …}."""
    for message in messages:
        fields = message if isinstance(message, dict) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise ValueError(
                f"{message!r} is not a message: give {{'role': …, 'content': …}}."
            )


def render_chat(
    template: str, messages: Sequence[dict[str, str]], **values: object
) -> str:
    """Render a Jinja chat template over `messages`, each {"role": …, "content": …}.

    `values` are further names that the template may use. The template comes from a file
    that others wrote, so it runs in a sandbox and with a limit on its work. Raises
    ValueError for a message of another form, and with the template's reason where the
    template refuses the messages; CheckpointError for a template that is wrong, reaches
    for Python's internals, or does too much.
    """
    # here, because most uses of a tokenizer render no chat
    from llm_course.text.sandbox import TemplateRefusal, render

    check_messages(messages)
    size = sum(50 + len(message["content"]) for message in messages)
    # a template can fail in all the ways in which Python can
    try:
        copies = [dict(message) for message in messages]
        return render(template, {"messages": copies, **values}, size)
    except TemplateRefusal as error:
        raise ValueError(
            f"The chat template refused these messages: {error}"
        ) from error
    except Exception as error:
        reason = str(error) or type(error).__name__
        raise CheckpointError(
            "The chat template that came with this tokenizer cannot be used"
            f" ({reason:.300}): encode plain text instead, or set"
            " `tokenizer.chat_template` to one that you trust."
        ) from error


def hide_special(
    messages: Sequence[dict[str, str]], names: Iterable[str], template: str
) -> tuple[list[dict[str, str]], dict[str, str]]:
    """Put a character that occurs nowhere else for each special token's name that a
    user typed.

    Returns the messages so changed, and character -> name. The name of a special token
    in the words of the developer (system) and of the model (assistant) is left alone.
    """
    check_messages(messages)
    names = list(names)
    typed = "".join(m["content"] + "\n" for m in messages if m["role"] not in _TRUSTED)
    found = names_in(typed, names)
    if not found:
        return list(messages), {}
    taken = chain([template], names, (v for m in messages for v in m.values()))
    characters = dict(zip(found, unused_characters(taken), strict=False))
    hidden = [
        (
            message
            if message["role"] in _TRUSTED
            else message | {"content": replace_names(message["content"], characters)}
        )
        for message in messages
    ]
    return hidden, {character: name for name, character in characters.items()}


def names_in(text: str, names: Iterable[str]) -> list[str]:
    """Return those of `names` that a reader of `text` from left to right meets, the
    longest first."""
    names = list(names)
    return list(dict.fromkeys(_pattern(names).findall(text))) if names else []


def replace_names(text: str, by: dict[str, str]) -> str:
    """Replace every key of `by` that occurs in `text`; where two begin together, the
    longer one."""
    return _pattern(by).sub(lambda match: by[match.group()], text) if by else text


def unused_characters(texts: Iterable[object]) -> Iterator[str]:
    """Yield private-use characters of Unicode that occur in none of `texts`."""
    used = set().union(*(text for text in texts if isinstance(text, str)))
    private = chain(range(0xE000, 0xF900), range(0xF0000, 0xFFFFE))
    return (chr(code) for code in private if chr(code) not in used)


def _pattern(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(
        "|".join(re.escape(n) for n in sorted(names, key=len, reverse=True))
    )
