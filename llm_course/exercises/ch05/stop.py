"""The check of 05.stop: text that is shown while it grows, up to a stop string."""

from collections.abc import Iterable, Iterator
from itertools import chain

from llm_course.exercises import Case, Cases, Exercise, Function, Observed


def shown(function: Function, pieces: list[str], stop: str) -> Observed | str:
    """What `function` hands out, in all and between two requests, and how often it
    asks; or the string that it returns."""
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


def until_stop(pieces: Iterable[str], stop: str) -> Iterator[str]:
    rest = ""
    for piece in pieces:
        held = rest + piece
        if stop in held:
            yield held[: held.index(stop)]
            return
        waiting = max(n for n in range(len(stop)) if held.endswith(stop[:n]))
        safe = len(held) - waiting
        yield held[:safe]
        rest = held[safe:]
    yield rest


def matcher(pieces: Iterable[str], stop: str) -> Iterator[str]:
    """Counts the characters of the stop string that fit; shows them at a misfit."""
    fits = 0
    for character in chain.from_iterable(pieces):
        if character == stop[fits]:
            fits += 1
            if fits == len(stop):
                return
        else:
            yield stop[:fits] + character
            fits = 0
    yield stop[:fits]


def in_one(pieces: Iterable[str], stop: str) -> str:
    return "".join(pieces).partition(stop)[0]


def cases() -> Cases:
    user = "\nUser:"
    yield Case(list("ABCD"), "BC")
    name = "a beginning that comes to nothing, and one at the end"
    yield Case(list("ABDB"), "BC", name=name)
    yield Case(["one, ", "two.\n", "User", ": ", "more"], user)
    yield Case(["one, two.\nUser: more", "and more"], user, name="all in one piece")
    yield Case(["xBCyBCz"], "BC", name="two in one piece")
    yield Case(list("aaabc"), "aab", name="the stop string starts at the second a")
    pieces = ["x", "ab", "a", "bac", "y"]
    yield Case(pieces, "abac", name="two beginnings, one in the other")
    pieces = ["Well", ", no", " end", ".\n", "Us", " all."]
    yield Case(pieces, user, name="no stop string")
    yield Case(["ends", " here", "###"], "###", name="nothing after it")


WRONG = """
that looks for the stop string in each piece alone
    - waiting -> - 0
that has shown the beginning of the stop string before it sees the end
    yield held[: held -> yield held[len(held) - len(piece) : held
    held[:safe] -> piece ;; yield rest ->
that always holds back len(stop) - 1 characters, even where they cannot begin it
    len(held) - waiting -> max(0, len(held) - len(stop) + 1)
that cuts with [:-n], which leaves nothing when n is 0
    held[:safe] -> held[:-waiting] ;; held[safe:] -> held[-waiting:]
that forgets what it held back when the pieces end
    yield rest ->
that shows the stop string too
    index(stop) -> index(stop) + len(stop)
that goes on asking for pieces after the stop string
    return -> yield from ('' for _ in pieces); return
that shows nothing before all pieces have come
    in pieces -> in [''.join(pieces)]
that cuts at the last stop string of a piece; the first one counts
    held.index(stop) -> held.rindex(stop)
that shows everything one piece late
    rest = "" -> rest = late = "" ;; yield rest -> yield late + rest
    yield held[: held -> yield late + held[: held
    yield held[:safe] -> yield late; late = held[:safe]
that leaves the loop at the stop string, and then shows what it holds
    return -> rest = held; break
that counts fitting characters, and after a misfit drops the character that did not fit
instead of trying it as the first
    matcher
that counts fitting characters, and after a misfit keeps only the last of them; the stop
string may have begun earlier
    matcher
    else: -> elif character == stop[0]: yield stop[:fits]; fits = 1
            else:
that returns one string; with `yield` it can show text before the end
    in_one
that looks for a beginning only at the start of what it holds
    len(held) - waiting -> 0 if stop.startswith(held) else len(held)
that holds back the shortest beginning; a longer one may be there too
    max(n for n in range( -> min((n for n in range(1,
    stop[:n])) -> stop[:n])), default=0)
that holds back everything after the first character of the stop string
    len(held) - waiting -> (held + stop).index(stop[0])
"""

CHECK = Exercise("05.stop", until_stop, cases, WRONG, call=shown)
