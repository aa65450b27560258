"""The check of exercise 05.stop: text that is shown while it grows, up to a stop string."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from llm_course.exercises.records import Case, Exercise, case

Stream = Callable[[Iterable[str], str], Iterable[str]]


def shown(function: Stream, pieces: list[str], stop: str) -> list[str]:
    """What `function` hands out before it asks for the first piece, then after each piece."""
    texts = [""]

    def arriving() -> Iterator[str]:
        for piece in pieces:
            texts.append("")
            yield piece
        texts.append("")  # it asked once more and learned that there are no more

    for text in function(arriving(), stop):
        texts[-1] += text
    return texts


def beginning(held: str, stop: str) -> int:
    """How many characters at the end of `held` may be the beginning of `stop`."""
    return max(n for n in range(len(stop)) if held.endswith(stop[:n]))


def stream(holding: Callable[[str, str], int], show_rest: bool = True, extra: int = 0) -> Stream:
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
        ["A", "B", "D", "B"], "BC", name="a beginning that comes to nothing, and one at the end"
    )
    yield case(["one, ", "two.\n", "User", ": ", "more"], "\nUser:")
    yield case(["one, two.\nUser: more", "and more"], "\nUser:", name="all in one piece")
    yield case(["a", "a", "a", "b", "c"], "aab", name="the stop string starts at the second a")
    yield case(["x", "ab", "a", "bac", "y"], "abac", name="two beginnings, one in the other")
    yield case(["Well", ", no", " end", ".\n", "Us", " all."], "\nUser:", name="no stop string")
    yield case(["ends", " here", "###"], "###", name="nothing after it")


STOP = Exercise(
    "05.stop",
    reference=until_stop,
    cases=stop_cases,
    call=shown,
    wrong={
        "that looks for the stop string in each piece alone": stream(lambda held, stop: 0),
        "that has shown the beginning of the stop string before it sees the end": nothing_held,
        "that always holds back len(stop) - 1 characters, even where they cannot begin it": stream(
            lambda held, stop: len(stop) - 1
        ),
        "that cuts with [:-n], which leaves nothing when n is 0": stream(all_for_none),
        "that forgets what it held back when the pieces end": stream(beginning, show_rest=False),
        "that shows the stop string too": stream(beginning, extra=1),
        "that goes on asking for pieces after the stop string": reads_on,
        "that shows nothing before all pieces have come": all_at_the_end,
        "that looks for a beginning only at the start of what it holds": stream(all_or_nothing),
        "that holds back the shortest beginning; a longer one may be there too": stream(shortest),
        "that holds back everything after the first character of the stop string": stream(
            from_the_first_character
        ),
    },
)
