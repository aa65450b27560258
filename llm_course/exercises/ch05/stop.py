"""The check of exercise 05.stop: text that is shown while it grows, up to a stop
string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from llm_course.exercises.compare import Observed
from llm_course.exercises.records import Case, Exercise, case

Stream = Callable[[Iterable[str], str], Iterable[str]]


def shown(function: Stream, pieces: list[str], stop: str) -> Observed | str:
    """What `function` hands out, in all and between two requests, and how often it
    asks.

    A function that returns a string gives this string.
    """
    texts = [""]

    def arriving() -> Iterator[str]:
        for piece in pieces:
            texts.append("")
            yield piece
        texts.append("")  # it asked once more and learned that there are no more

    result = function(arriving(), stop)
    if isinstance(result, str):
        return result
    for text in result:
        texts[-1] += text
    facts = {
        "The text you show, joined,": "".join(texts),
        "The number of requests for a piece": len(texts) - 1,
        "What you show": texts,
    }
    return Observed("a generator: strings, each handed out by `yield`", facts)


def beginning(held: str, stop: str) -> int:
    """How many characters at the end of `held` may be the beginning of `stop`."""
    return max(n for n in range(len(stop)) if held.endswith(stop[:n]))


def stream(
    holding: Callable[[str, str], int], show_rest: bool = True, extra: int = 0
) -> Stream:
    """The loop, with a rule for how many characters to hold back.

    `extra` characters of the stop string are shown.
    """

    def until(pieces: Iterable[str], stop: str) -> Iterator[str]:
        held = ""
        for piece in pieces:
            held += piece
            if stop in held:
                yield held[: held.index(stop) + extra * len(stop)]
                return
            safe = max(0, len(held) - holding(held, stop))
            yield held[:safe]
            held = held[safe:]
        if show_rest:
            yield held

    return until


until_stop = stream(beginning)


def nothing_held(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Finds the stop string across pieces, after its beginning has been shown."""
    text = ""
    for piece in pieces:
        before, text = len(text), text + piece
        if stop in text:
            yield text[before : max(before, text.index(stop))]
            return
        yield piece


def reads_on(pieces: Iterable[str], stop: str) -> Iterator[str]:
    pieces = iter(pieces)
    yield from until_stop(pieces, stop)
    yield from ("" for _ in pieces)


def all_at_the_end(pieces: Iterable[str], stop: str) -> Iterator[str]:
    yield "".join(pieces).partition(stop)[0]


def at_the_last(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Cuts at the last stop string of what it holds."""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.rindex(stop)]
            return
        safe = len(held) - beginning(held, stop)
        yield held[:safe]
        held = held[safe:]
    yield held


def one_late(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Shows with each piece what was safe after the one before."""
    late = ""
    for text in until_stop(pieces, stop):
        yield late
        late = text
    yield late


def shown_after_break(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Leaves the loop at the stop string, and shows what it holds, as when the pieces
    end."""
    held = ""
    for piece in pieces:
        held += piece
        if stop in held:
            yield held[: held.index(stop)]
            break
        safe = len(held) - beginning(held, stop)
        yield held[:safe]
        held = held[safe:]
    yield held


def matcher(restart: bool) -> Stream:
    """Counts how many characters of the stop string fit; what does not fit starts it
    anew.

    With `restart` the character that does not fit may be the first of the next one.
    """

    def until(pieces: Iterable[str], stop: str) -> Iterator[str]:
        fits = 0
        for piece in pieces:
            for character in piece:
                if character == stop[fits]:
                    fits += 1
                    if fits == len(stop):
                        return
                elif restart and character == stop[0]:
                    yield stop[:fits]
                    fits = 1
                else:
                    yield stop[:fits] + character
                    fits = 0
        yield stop[:fits]

    return until


def returned(pieces: Iterable[str], stop: str) -> str:
    return "".join(pieces).partition(stop)[0]


def all_or_nothing(held: str, stop: str) -> int:
    """What is held as a whole is a beginning or not; no other one is looked for."""
    return len(held) if stop.startswith(held) else 0


def all_for_none(held: str, stop: str) -> int:
    return beginning(held, stop) or len(held)


def shortest(held: str, stop: str) -> int:
    """The shortest beginning, where a longer one is there too."""
    return min((n for n in range(1, len(stop)) if held.endswith(stop[:n])), default=0)


def from_the_first_character(held: str, stop: str) -> int:
    """All from the first place on where the stop string's first character stands."""
    return len(held) - held.index(stop[0]) if stop[0] in held else 0


def stop_cases() -> Iterator[Case]:
    yield case(["A", "B", "C", "D"], "BC")
    yield case(
        ["A", "B", "D", "B"],
        "BC",
        name="a beginning that comes to nothing, and one at the end",
    )
    yield case(["one, ", "two.\n", "User", ": ", "more"], "\nUser:")
    yield case(
        ["one, two.\nUser: more", "and more"], "\nUser:", name="all in one piece"
    )
    yield case(["xBCyBCz"], "BC", name="two in one piece")
    yield case(
        ["a", "a", "a", "b", "c"], "aab", name="the stop string starts at the second a"
    )
    yield case(
        ["x", "ab", "a", "bac", "y"], "abac", name="two beginnings, one in the other"
    )
    yield case(
        ["Well", ", no", " end", ".\n", "Us", " all."], "\nUser:", name="no stop string"
    )
    yield case(["ends", " here", "###"], "###", name="nothing after it")


STOP = Exercise(
    "05.stop",
    reference=until_stop,
    cases=stop_cases,
    call=shown,
    wrong={
        "that looks for the stop string in each piece alone": stream(
            lambda held, stop: 0
        ),
        "that has shown the beginning of the stop string before it sees the end": (
            nothing_held
        ),
        "that always holds back len(stop) - 1 characters, even where they cannot begin it": stream(
            lambda held, stop: len(stop) - 1
        ),
        "that cuts with [:-n], which leaves nothing when n is 0": stream(all_for_none),
        "that forgets what it held back when the pieces end": stream(
            beginning, show_rest=False
        ),
        "that shows the stop string too": stream(beginning, extra=1),
        "that goes on asking for pieces after the stop string": reads_on,
        "that shows nothing before all pieces have come": all_at_the_end,
        "that cuts at the last stop string of a piece; the first one counts": (
            at_the_last
        ),
        "that shows everything one piece late": one_late,
        "that leaves the loop at the stop string, and then shows what it holds": (
            shown_after_break
        ),
        "that counts fitting characters, and after a misfit drops the character that did not fit instead of trying it as the first": matcher(
            restart=False
        ),
        "that counts fitting characters, and after a misfit keeps only the last of them; the stop string may have begun earlier": matcher(
            restart=True
        ),
        "that returns one string; with `yield` it can show text before the end": (
            returned
        ),
        "that looks for a beginning only at the start of what it holds": stream(
            all_or_nothing
        ),
        "that holds back the shortest beginning; a longer one may be there too": stream(
            shortest
        ),
        "that holds back everything after the first character of the stop string": (
            stream(from_the_first_character)
        ),
    },
)
