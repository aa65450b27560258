"""From a list of chat messages to the text a model was trained on."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from llm_course.errors import CheckpointError, readable

# One template, or several by name, of which "default" and "tool_use" are chosen without
# being named.
ChatTemplate = str | dict[str, str]
Message = Mapping[str, Any]


def check_messages(messages: Sequence[Message]) -> None:
    """Raise ValueError for a message of another form than {"role": …, "content": …}.

    The content is a string or a list of parts, {"type": "text", "text": …}; a message
    that calls tools may have none.
    """
    for message in messages:
        fields = message if isinstance(message, dict) else {}
        content = fields.get("content")
        whole = isinstance(content, str) or (
            all(isinstance(part, dict) for part in content)
            if isinstance(content, list)
            else content is None and "tool_calls" in fields
        )
        if not whole or not isinstance(fields.get("role"), str):
            raise ValueError(
                f"{readable(repr(message), 200)} is not a message:"
                " give {'role': …, 'content': …}."
            )


def choose_template(
    found: ChatTemplate | None, wanted: str | None, tools: object
) -> str:
    """The template that a chat is rendered with: `wanted` by its name, or as it is.

    Without `wanted`, of several named ones "tool_use" if there are `tools`, else
    "default". Raises ValueError where there is none.
    """
    named = found if isinstance(found, dict) else {"default": found} if found else {}
    if wanted is not None:
        return named.get(wanted, wanted)
    for name in ("tool_use", "default"):
        if name in named and (name == "default" or tools is not None):
            return named[name]
    if named:
        raise ValueError(
            "This tokenizer has several chat templates and no default: pass"
            " chat_template=, one of"
            f" {readable(', '.join(map(repr, sorted(named))), 300)}."
        )
    raise ValueError("This tokenizer has no chat template: encode plain text instead.")


def render_chat(template: str, values: Mapping[str, Any]) -> str:
    """Render a Jinja chat template over `values`: the messages, tools, and so on.

    The template comes from a file that others wrote, so it runs apart, and with limits
    on time and memory. Raises ValueError for values that are no JSON, and with the
    template's reason where the template refuses the messages; CheckpointError for a
    template that is wrong, reaches for Python's internals, or does too much.
    """
    # here, because most uses of a tokenizer render no chat
    from llm_course.text.sandbox import TemplateFailure, TemplateRefusal, render

    try:
        return render(template, _plain(values))
    except TemplateRefusal as error:
        raise ValueError(
            f"The chat template refused these messages: {readable(error)}"
        ) from error
    except TemplateFailure as error:
        raise CheckpointError(
            "The chat template that came with this tokenizer cannot be used"
            f" ({readable(error, 300)}): encode plain text instead, or set"
            " `tokenizer.chat_template` to one that you trust."
        ) from error


def _plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """The values as JSON has them, and without the fields of messages that are None."""
    messages = [
        {key: value for key, value in message.items() if value is not None}
        for message in values["messages"]
    ]
    values = {**values, "messages": messages}
    try:
        json.dumps(values)
    except (TypeError, ValueError, RecursionError) as error:
        raise ValueError(
            f"A chat template is given text, numbers, lists and dicts only"
            f" ({readable(error, 200)}):"
            " write tools as JSON schemas."
        ) from error
    return values
