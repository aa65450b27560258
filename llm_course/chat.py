"""Talk with the model in a terminal.

    python -m llm_course.chat [--model NAME_OR_PATH] [--system TEXT] [--set NAME VALUE]

One key/value cache serves the whole conversation: each turn prefills only what is new. Ctrl-C stops
a reply; the chat goes on.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, replace

import torch

from llm_course.checkpoints import CheckpointError, Tokenizer, load_pretrained
from llm_course.config import GenerationConfig
from llm_course.engine import Conversation, prepare_for_inference
from llm_course.models.transformer import DecoderOnlyModel

HELP = """\
/set NAME VALUE  change a setting, for example /set temperature 0.7; /set alone shows them all
/system TEXT     begin anew with TEXT as the system message; /system alone with the model's own
/reset           begin anew
/help            this list
/quit            leave (so does Ctrl-D)
Ctrl-C stops a reply."""
MODEL = "smollm2-135m-instruct"
SETTINGS = GenerationConfig(max_new_tokens=400, temperature=0.7, top_p=0.9)
WORDS = {"true": True, "on": True, "false": False, "off": False, "none": None}


def parse_value(text: str) -> object:
    """A word as a bool, None, int or float. Raises ValueError for anything else."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    raise ValueError(f"{text!r} is not a value: give a number, true, false or none")


class Chat:
    """A conversation with a model: what was said, the settings, and the commands.

    `write` gets every piece of text as it comes; `clock` gives seconds.
    """

    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: Tokenizer,
        settings: GenerationConfig = SETTINGS,
        system: str | None = None,
        write: Callable[[str], object] = lambda text: print(text, end="", flush=True),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.tokenizer, self.settings, self.write, self.clock = tokenizer, settings, write, clock
        self.model, self.conversation = model, Conversation(model)
        self.generator = self._seeded()
        self.system = system
        self.messages: list[dict[str, str]] = []
        self.reset()

    def handle(self, line: str) -> bool:
        """Answer a line, or carry out a command. False: the user wants to leave."""
        line = line.strip()
        if not line.startswith("/"):
            if line:
                self.reply(line)
            return True
        name, _, rest = line[1:].partition(" ")
        if name in ("quit", "exit"):
            return False
        commands = {"help": self._help, "reset": self._reset, "set": self._set}
        commands["system"] = self._system
        if name in commands:
            commands[name](rest.strip())
        else:
            self._say(f"There is no command /{name}. /help lists them.")
        return True

    def reset(self) -> None:
        """Forget what was said, but not the settings. The cache's memory stays."""
        self.messages = [{"role": "system", "content": self.system}] if self.system else []

    def reply(self, text: str) -> None:
        """Stream the model's answer to `text`. Ctrl-C (KeyboardInterrupt) ends it early."""
        messages = [*self.messages, {"role": "user", "content": text}]
        try:
            prompt = self.tokenizer.encode_chat(messages)
        except ValueError as error:
            self._say(f"{error}")
            return
        room = self.model.config.max_position_embeddings - len(prompt)
        if room < 1:
            self._say(
                f"With this message the conversation has {len(prompt)} tokens, and the model reads "
                f"{len(prompt) + room - 1} at most before a reply. Write less, or /reset."
            )
            return
        settings = replace(self.settings, max_new_tokens=min(self.settings.max_new_tokens, room))
        start, times, new, ending = self.clock(), [], [], ""

        def timed(ids: Iterator[int]) -> Iterator[int]:
            for token in ids:
                times.append(self.clock() - start)
                new.append(token)
                yield token

        eos = self.tokenizer.eos_token_ids
        ids = self.conversation.stream(prompt, settings, eos, generator=self.generator)
        try:
            for piece in self.tokenizer.decode_stream(timed(ids), skip_special_tokens=True):
                self.write(piece)
        except KeyboardInterrupt:
            ending = ", stopped"
        else:
            if new[-1] not in eos:
                ending = (
                    ", the context is full: /reset"
                    if len(new) == room
                    else ", max_new_tokens reached"
                )
        if not new:
            self._say("\n[stopped before the first token; your message is taken back]")
            return
        answer = self.tokenizer.decode(new, skip_special_tokens=True)
        self.messages = [*messages, {"role": "assistant", "content": answer}]
        self._say("" if answer.endswith("\n") else "\n", end="")
        self._say(f"[{statistics(times, len(prompt), self.conversation.reused)}{ending}]")

    def _help(self, _rest: str) -> None:
        self._say(HELP)

    def _reset(self, _rest: str) -> None:
        self.reset()
        self._say("[a new conversation]")

    def _system(self, text: str) -> None:
        self.system = text or None
        self._reset("")

    def _set(self, rest: str) -> None:
        """Change one setting; a bad name or value changes nothing."""
        known = asdict(self.settings)
        if not rest:
            self._say("  ".join(f"{name}={value}" for name, value in known.items()))
            return
        name, _, value = rest.partition(" ")
        if name not in known:
            self._say(f"There is no setting {name!r}; there are {', '.join(known)}.")
            return
        try:
            self.settings = replace(self.settings, **{name: parse_value(value.strip())})
        except ValueError as error:
            self._say(f"{error} ({name} stays {known[name]})")
            return
        if name == "seed":
            self.generator = self._seeded()
        self._say(f"[{name} = {getattr(self.settings, name)}]")

    def _seeded(self) -> torch.Generator:
        """One generator for all replies, so that the same question twice is not answered alike."""
        generator = torch.Generator(self.model.embed_tokens.weight.device)
        if self.settings.seed is None:
            generator.seed()
        else:
            generator.manual_seed(self.settings.seed)
        return generator

    def _say(self, text: str, end: str = "\n") -> None:
        self.write(text + end)


def statistics(times: Sequence[float], prompt: int, reused: int) -> str:
    """Of one reply: `times` in seconds after its start, one for each token."""
    counted = f"{len(times)} token{'s' * (len(times) != 1)}"
    if times:
        counted += f", the first after {times[0]:.2f} s"
    if len(times) > 1:
        counted += f", then {(len(times) - 1) / (times[-1] - times[0]):.1f} a second"
    return f"{counted}; prompt: {prompt - reused} new, {reused} in the cache"


def lines(chat: Chat) -> Iterator[str]:
    """What the user types, until the end of the input. Ctrl-C at the prompt: a second one leaves."""
    asked = False
    while True:
        try:
            yield input("> " if sys.stdin.isatty() else "")
            asked = False
        except EOFError:
            return
        except KeyboardInterrupt:
            chat.write("\n")
            if asked:
                return
            asked = True
            chat.write("[Ctrl-C again or /quit to leave]\n")


def main(argv: Sequence[str] | None = None) -> int:
    """The command line. Exit status 1 when the model cannot be loaded or has no chat template."""
    parser = argparse.ArgumentParser(prog="llm_course.chat", description="Talk with the model.")
    parser.add_argument("--model", default=MODEL, help="a name, a folder, or a .gguf file")
    parser.add_argument("--system", help="the system message")
    parser.add_argument("--set", nargs=2, action="append", default=[], metavar=("NAME", "VALUE"))
    args = parser.parse_args(argv)
    try:
        model, tokenizer = load_pretrained(args.model)
    except CheckpointError as error:
        print(error, file=sys.stderr)
        return 1
    if tokenizer is None or not tokenizer.chat_template:
        print(f"{args.model} has no chat template: it is not a chat model", file=sys.stderr)
        return 1
    chat = Chat(prepare_for_inference(model), tokenizer, system=args.system)
    for name, value in args.set:
        chat.handle(f"/set {name} {value}")
    if sys.stdin.isatty():
        with suppress(ImportError):  # not on Windows, which edits lines itself
            import readline  # noqa: F401  # arrow keys and history in input()
        chat.write("Type a message. /help lists the commands.\n")
    for line in lines(chat):
        if not chat.handle(line):
            break
    return 0


if __name__ == "__main__":
    sys.exit(main())
