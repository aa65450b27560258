"""From a list of chat messages to the text a model was trained on."""

from __future__ import annotations

from collections.abc import Sequence


def render_chat(template: str, messages: Sequence[dict[str, str]], **values: object) -> str:
    """Render a Jinja chat template over `messages`, each {"role": …, "content": …}.

    `values` are further names that the template may use. The template comes from a file that others
    wrote, so it runs in Jinja's immutable sandbox. Raises ValueError for a message of another form, and
    with the reason when the template fails.
    """
    import jinja2  # here, because most uses of a tokenizer render no chat
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    for message in messages:
        fields = message if isinstance(message, dict) else {}
        if not all(isinstance(fields.get(key), str) for key in ("role", "content")):
            raise ValueError(f"{message!r} is not a message: give {{'role': …, 'content': …}}.")

    def raise_exception(reason: str) -> None:
        raise jinja2.TemplateError(reason)

    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.globals["raise_exception"] = raise_exception
    try:
        return environment.from_string(template).render(
            messages=[dict(message) for message in messages], **values
        )
    except jinja2.TemplateError as error:
        raise ValueError(f"The chat template refused these messages: {error}") from error
