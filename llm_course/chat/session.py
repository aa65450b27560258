"""A conversation with a model: what was said, the settings, and the commands."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import torch

from llm_course.chat.settings import DEFAULTS, change, show
from llm_course.config import GenerationConfig
from llm_course.engine import Conversation
from llm_course.engine.generation import seeded_generator
from llm_course.errors import CheckpointError, readable
from llm_course.models.transformer import DecoderOnlyModel
from llm_course.text import Tokenizer

HELP = """\
/set NAME VALUE  change a setting, say /set temperature 0.7; /set alone shows all
/system TEXT     begin anew with TEXT as the system message; alone, with the model's own
/reset           begin anew
/help            this list
/quit            leave (so does Ctrl-D)
Ctrl-C stops a reply."""


class Chat:
    """A conversation with a model: what was said, the settings, and the commands.

    `write` gets every piece of text as it comes, as a terminal may have it; `clock`
    gives seconds.
    """

    def __init__(
        self,
        model: DecoderOnlyModel,
        tokenizer: Tokenizer,
        settings: GenerationConfig = DEFAULTS,
        system: str | None = None,
        write: Callable[[str], object] = lambda text: print(text, end="", flush=True),
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """Raises ValueError as `set_system` does."""
        self.tokenizer, self.settings, self.write, self.clock = (
            tokenizer,
            settings,
            write,
            clock,
        )
        self.model, self.conversation = model, Conversation(model)
        self.generator = self._seeded()
        self.messages: list[dict[str, str]] = []
        self._stopping = False
        self.set_system(system)

    def handle(self, line: str) -> bool:
        """Answer a line, or carry out a command. False: the user wants to leave.

        What is wrong with a line is written, and changes nothing.
        """
        line = line.strip()
        try:
            if not line.startswith("/"):
                if line:
                    self.reply(line)
                return True
            name, _, rest = line[1:].partition(" ")
            if name in ("quit", "exit"):
                return False
            commands = {"help": self._help, "reset": self._reset, "set": self._set}
            commands |= {
                "settings": lambda _rest: self._set(""),
                "system": self._system,
            }
            if name not in commands:
                raise ValueError(f"There is no command /{name}. /help lists them.")
            commands[name](rest.strip())
        except (ValueError, CheckpointError) as error:
            self._say(readable(error))
        return True

    def reset(self) -> None:
        """Forget what was said, but not the settings. The cache's memory stays."""
        self.messages = (
            [{"role": "system", "content": self.system}] if self.system else []
        )

    def set(self, name: str, value: str) -> None:
        """Change one setting. Raises ValueError, and changes nothing, as `change`
        does."""
        self.settings = change(self.settings, name, value)
        if name == "seed":
            self.generator = self._seeded()

    def set_system(self, text: str | None) -> None:
        """Begin anew with another system message; None or "" leaves it to the chat
        template.

        Raises ValueError, and changes nothing, for one that the vocabulary cannot
        spell, the template refuses, or the context cannot hold.
        """
        first = [{"role": "system", "content": text}] if text else []
        self._room(
            self.tokenizer.encode_chat([*first, {"role": "user", "content": "?"}])
        )
        self.system = text
        self.reset()

    def stop(self) -> None:
        """End the reply after the token that is being computed. For signal handlers and
        threads."""
        self._stopping = True

    def reply(self, text: str) -> None:
        """Stream the model's answer to `text`, and write a line about it.

        `stop` ends it early, and so does KeyboardInterrupt, at once. What was shown
        until then is remembered. Raises ValueError for a text that the vocabulary
        cannot spell or the context cannot hold.
        """
        self._stopping, reply = False, Reply(self.clock())
        messages = [*self.messages, {"role": "user", "content": text}]
        prompt = self.tokenizer.encode_chat(messages)
        conversation, room = self.conversation, self._room(prompt)
        try:
            for piece in self.tokenizer.decode_stream(
                self._new_ids(prompt, room, reply), skip_special_tokens=True
            ):
                # Only the last piece can end in half a character: the reply was cut
                # there.
                whole = piece.rstrip("\ufffd")
                reply.said += whole
                self._say(whole, end="")
        except (KeyboardInterrupt, ValueError, RuntimeError) as error:
            # the other one was left in mid-work
            self.conversation = Conversation(self.model)
            reply.ending = (
                "stopped"
                if isinstance(error, KeyboardInterrupt)
                else f"failed: {readable(error)}"
            )
        self._say("" if reply.said.endswith("\n") else "\n", end="")
        if reply.ending and not reply.said:
            self._say(
                f"[{reply.ending} before the first word; your message is taken back]"
            )
            return
        self.messages = [*messages, {"role": "assistant", "content": reply.said}]
        counts = statistics(reply.times, len(prompt), conversation.reused)
        self._say(f"[{', '.join(filter(None, (counts, reply.ending)))}]")

    def _new_ids(self, prompt: list[int], room: int, reply: Reply) -> Iterator[int]:
        """The tokens of a reply, at most `room`; keeps their times, and notes why they
        end."""
        count, eos = (
            min(self.settings.max_new_tokens, room),
            self.tokenizer.eos_token_ids,
        )
        settings = replace(self.settings, max_new_tokens=count)
        tokens = self.conversation.stream(
            prompt,
            settings,
            eos,
            generator=self.generator,
            vocab_size=self.tokenizer.vocab_size,  # an embedding may have more rows
        )
        for token in tokens:
            reply.times.append(self.clock() - reply.start)
            yield token
            if token in eos:
                return
            if self._stopping:
                reply.ending = "stopped"
                return
        full = count == room
        reply.ending = (
            "the context is full: /reset" if full else "max_new_tokens reached"
        )

    def _room(self, prompt: list[int]) -> int:
        """How many tokens fit behind a prompt. Raises ValueError for none."""
        limit = self.model.config.max_position_embeddings
        if len(prompt) >= limit:
            raise ValueError(
                f"With this message the conversation has {len(prompt)} tokens, and the"
                f" model reads {limit - 1} at most before a reply. Write less, or"
                " /reset."
            )
        return limit - len(prompt)

    def _help(self, _rest: str) -> None:
        self._say(HELP)

    def _reset(self, _rest: str) -> None:
        self.reset()
        self._say("[a new conversation]")

    def _system(self, text: str) -> None:
        self.set_system(text or None)
        self._say("[a new conversation]")

    def _set(self, rest: str) -> None:
        """Change one setting; a bad name or value changes nothing. Without a name, show
        all."""
        if not rest:
            system = readable(self.system or "the model's own")
            self._say(f"{show(self.settings)}\nsystem message: {system}")
            return
        name, _, value = rest.partition(" ")
        self.set(name, value.strip())
        self._say(f"[{name} = {value.strip()[:40]}]")

    def _seeded(self) -> torch.Generator:
        """One generator for all replies, so that the same question twice is not
        answered alike."""
        return seeded_generator(
            self.settings.seed, self.model.embed_tokens.weight.device
        )

    def _say(self, text: str, end: str = "\n") -> None:
        """All that is written passes here: a model or a user may have written what a
        terminal takes for commands."""
        self.write(readable(text + end, limit=None))


@dataclass
class Reply:
    """What is known of a reply while it is written. Times in seconds."""

    start: float
    times: list[float] = field(default_factory=list)  # of each token, after the start
    said: str = ""
    ending: str = ""  # why it was cut; "" for the model's own end


def statistics(times: Sequence[float], prompt: int, reused: int) -> str:
    """Of one reply: `times` in seconds after its start, one for each token."""
    counted = f"{len(times)} token{'s' * (len(times) != 1)}"
    if times:
        counted += f", the first after {times[0]:.2f} s"
    if times and times[-1] > times[0]:
        counted += f", then {(len(times) - 1) / (times[-1] - times[0]):.1f} a second"
    return f"{counted}; prompt: {prompt - reused} new, {reused} in the cache"
