"""Render chat templates that others wrote: a program that `sandbox.py` starts.

It is run by its path, with nothing of this package in reach. Each line of its input is
a request, {"template": …, "values": …} as JSON. The answer is a line, too: {"text": …},
{"refused": …} where the template called `raise_exception`, or {"error": …}. Time and
memory are the business of the process that started it, which kills it.

What a template finds here is what `transformers` gives it.
"""

from __future__ import annotations

import faulthandler
import functools
import json
import os
import sys
from contextlib import suppress
from datetime import datetime
from typing import Any

sys.path.extend(sys.argv[1:2])  # where jinja2 lies; -I and -S leave it out

from jinja2 import TemplateError, nodes
from jinja2.exceptions import SecurityError
from jinja2.ext import Extension
from jinja2.runtime import Undefined
from jinja2.sandbox import ImmutableSandboxedEnvironment
from jinja2.utils import Namespace

LONGEST_REASON = 500
# Raised by whatever reaches out of the process. With the sandbox this is a second wall.
FORBIDDEN = ("open", "os.", "subprocess.", "socket.", "ctypes.", "shutil.", "pty.")


class Refusal(TemplateError):
    """The template called `raise_exception`: it will not have these messages."""


class GenerationBlocks(Extension):
    """`{% generation %} … {% endgeneration %}`, which marks what a model is trained on:
    here only its text matters."""

    tags = {"generation"}

    def parse(self, parser: Any) -> nodes.Node:
        """The block's body, with a scope of its own."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.Scope(body, lineno=line)


class PlainNamespace(Namespace):
    """A namespace without names that begin with an underscore."""

    def __init__(*args: Any, **values: Any) -> None:  # any name may be a value's
        self, rest = args[0], args[1:]
        values = dict(*rest, **values)
        for name in values:
            _public(name)
        Namespace.__init__(self, values)

    def __setitem__(self, name: str, value: Any) -> None:
        _public(name)
        super().__setitem__(name, value)


def _public(name: object) -> None:
    if str(name).startswith("_"):
        raise SecurityError(f"it sets the attribute {name!r:.100}")


class Dict:
    """The type `dict`, of which a template may call two things only."""

    def __call__(self, *args: Any, **values: Any) -> dict[Any, Any]:
        return dict(*args, **values)

    def fromkeys(self, *args: Any) -> dict[Any, Any]:
        """As `dict.fromkeys`."""
        return dict.fromkeys(*args)


def to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON as it is: Jinja's own filter escapes for HTML."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def refuse(reason: object) -> None:
    """What a template calls as `raise_exception`."""
    raise Refusal(str(reason)[:LONGEST_REASON])


class Sandbox(ImmutableSandboxedEnvironment):
    """Jinja's sandbox, which refuses at once what it would show as nothing."""

    def unsafe_undefined(self, obj: object, attribute: str) -> Undefined:
        """Called for what may not be had: Python's internals."""
        raise SecurityError(
            f"it reaches for {attribute!r:.100} of {type(obj).__name__:.100}"
        )


def make_environment() -> Sandbox:
    """The names, filters and tags of chat templates."""
    environment = Sandbox(
        trim_blocks=True,
        lstrip_blocks=True,
        extensions=[GenerationBlocks, "jinja2.ext.loopcontrols"],
    )
    environment.filters["tojson"] = to_json
    environment.globals |= {
        "raise_exception": refuse,
        "strftime_now": lambda form: datetime.now().strftime(form),
        "dict": Dict(),
        "namespace": PlainNamespace,
    }
    return environment


def answer(request: bytes, compiled: Any, limit: int) -> dict[str, str]:
    """Render one request; whatever a template can raise is an answer, too."""
    try:
        asked = json.loads(request)
        text = compiled(asked["template"]).render(asked["values"])
        if len(text) > limit:
            return {"error": f"it makes a text of {len(text):,} characters"}
        return {"text": text}
    except Refusal as error:
        return {"refused": str(error)}
    except MemoryError:
        return {"error": "it asks for too much memory"}
    except BaseException as error:
        return {"error": str(error)[:LONGEST_REASON] or type(error).__name__}


def forbid_the_world() -> None:
    """From here on this process can only compute."""

    def hook(event: str, _args: object) -> None:
        if event.startswith(FORBIDDEN):
            raise SecurityError(f"it tries {event}")

    sys.addaudithook(hook)


def limit_memory(size: int) -> None:
    """Where the system can bound a process's memory, let it."""
    # neither on Windows nor on every macOS, where only the parent's watch remains
    with suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_AS, (size, size))


def main(memory: int, seconds: float, limit: int) -> None:
    """Write the process's id, then answer the requests of the input, a line each,
    until it ends."""
    compiled = functools.lru_cache(8)(make_environment().from_string)
    # whatever Python imports late, it imports now
    warm_up = '{"template": "{{ strftime_now(\'%d\') ~ x.y }}", "values": {}}'
    answer(warm_up.encode(), compiled, limit)
    limit_memory(memory)
    requests, answers = sys.stdin.buffer, sys.stdout.buffer
    # open for as long as the process
    errors = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    forbid_the_world()
    answers.write(b"%d\n" % os.getpid())
    answers.flush()
    for request in requests:
        # should the parent die, nobody is left to kill this process
        faulthandler.dump_traceback_later(2 * seconds, exit=True, file=errors)
        answers.write(json.dumps(answer(request, compiled, limit)).encode() + b"\n")
        answers.flush()
        faulthandler.cancel_dump_traceback_later()


if __name__ == "__main__":
    main(int(sys.argv[2]), float(sys.argv[3]), int(sys.argv[4]))
