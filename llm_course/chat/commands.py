"""The commands of the chat. Each takes the chat and the rest of its line, and returns what to show."""

from __future__ import annotations

from dataclasses import replace

from llm_course.chat.session import Chat

HELP = """\
/reset           start a new conversation; the system message and the settings stay
/system TEXT     set the system message; without TEXT, back to the model's own
/set NAME VALUE  change a setting, for example: /set temperature 0.7
/settings        show the settings
/quit            leave; so does Ctrl-D
Ctrl-C stops a reply. To send a message that begins with /, type a space before it."""

KINDS = {
    "temperature": (float, "a number, for example 0.7"),
    "top_k": (int, "a whole number, for example 50, or off"),
    "top_p": (float, "a number from 0 to 1, for example 0.9, or off"),
    "min_p": (float, "a number from 0 to 1, for example 0.05, or off"),
    "repetition_penalty": (float, "a number, for example 1.1, or off"),
    "max_new_tokens": (int, "a whole number, for example 512"),
    "seed": (int, "a whole number from 0 to 2**63 - 1, for example 0, or off"),
    "do_sample": (bool, "on or off"),
    "greedy": (bool, "on or off"),  # do_sample, the other way round
}
OFF = {"top_k": None, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, "seed": None}
SWITCH = {"on": True, "true": True, "yes": True, "off": False, "false": False, "no": False}


def run_command(chat: Chat, line: str) -> str:
    """Run a line that begins with "/". Raises ValueError that names what is wrong with it, and then
    changes nothing; EOFError for /quit."""
    name, _, rest = line.strip().partition(" ")
    if name not in COMMANDS:
        raise ValueError(
            f"{name} is not a command: /help lists them. To send it as a message, type a space "
            "before it"
        )
    return COMMANDS[name](chat, rest.strip())


def _reset(chat: Chat, _rest: str) -> str:
    chat.reset()
    return "a new conversation; the system message and the settings stay"


def _system(chat: Chat, text: str) -> str:
    chat.set_system(text or None)
    return "the system message is set" if text else "the system message is the model's own"


def _set(chat: Chat, rest: str) -> str:
    words = rest.replace("=", " ").split()
    if not words:
        return _settings(chat, "")
    if len(words) != 2:
        raise ValueError(f"/set {rest}: give a name and a value, for example /set temperature 0.7")
    name, value = words[0], parse_value(*words)
    changed = {"do_sample": not value} if name == "greedy" else {name: value}
    try:
        chat.settings = replace(chat.settings, **changed)
    except ValueError as error:
        raise ValueError(str(error).removeprefix("GenerationConfig.")) from error
    return ", ".join(f"{name} = {show(getattr(chat.settings, name))}" for name in changed)


def parse_value(name: str, text: str) -> float | int | bool | None:
    """Read the value of a setting. Raises ValueError that names the setting and what it may be."""
    if name not in KINDS:
        raise ValueError(f"{name} is not a setting: choose one of {', '.join(KINDS)}")
    kind, wanted = KINDS[name]
    text = text.lower()
    if name in OFF and text in ("off", "none"):
        return OFF[name]
    try:
        value = SWITCH[text] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise ValueError(f"{name} = {text:.40}: must be {wanted}") from None
    if name == "seed" and not 0 <= value < 2**63:  # what torch's generators take everywhere
        raise ValueError(f"{name} = {text:.40}: must be {wanted}")
    return value


def _settings(chat: Chat, _rest: str) -> str:
    shown = [f"{name} = {show(getattr(chat.settings, name))}" for name in KINDS if name != "greedy"]
    system = "the model's own" if chat.system is None else chat.system
    return "\n".join([*shown, f"system message: {system}"])


def show(value: float | int | bool | None) -> str:
    """A setting as `/set` reads it."""
    if value is None or value is False:
        return "off"
    return "on" if value is True else f"{value}"


def _quit(_chat: Chat, _rest: str) -> str:
    raise EOFError


COMMANDS = {
    "/help": lambda _chat, _rest: HELP,
    "/reset": _reset,
    "/system": _system,
    "/set": _set,
    "/settings": _settings,
    "/quit": _quit,
}
