"""The check of exercise 06.verify: several guessed tokens, judged by one forward
pass."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch

from llm_course.engine import KVCache
from llm_course.exercises.ch06.models import contents, held, random_ids, tiny_model
from llm_course.exercises.compare import Observed
from llm_course.exercises.records import Case, Exercise, case
from llm_course.models import DecoderOnlyModel

Verify = Callable[[DecoderOnlyModel, KVCache, int, list[int]], list[int]]


def seen(
    function: Verify,
    model: DecoderOnlyModel,
    cache: KVCache,
    token: int,
    guesses: list[int],
) -> Observed:
    """What is returned, and what the cache holds afterwards."""
    result = function(model, cache, token, guesses)
    return Observed(
        "a list",
        {
            "Your result": result,
            "The length of the cache, afterwards,": cache.length,
            "The keys and values in use [L, 2, B, Hkv, length, D], afterwards,": (
                contents(cache)
            ),
        },
    )


@torch.inference_mode()
def own_choices(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """What the model says after `token` and after each guess; all of them are in the
    cache then."""
    return (
        model(torch.tensor([[token, *guesses]]), kv_cache=cache)[0].argmax(-1).tolist()
    )


def matches(guesses: list[int], own: list[int]) -> int:
    """How many guesses are right, from the start."""
    same = [guess == choice for guess, choice in zip(guesses, own, strict=False)]
    return [*same, False].index(False)


def verify(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    right = matches(guesses, own)
    cache.truncate(past + 1 + right)
    return own[: right + 1]


def ending_at(extra: int) -> Verify:
    """The cache is left with `extra` tokens more than it should hold."""

    def version(
        model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
    ) -> list[int]:
        past = cache.length
        own = own_choices(model, cache, token, guesses)
        right = matches(guesses, own)
        cache.truncate(past + 1 + right + extra)
        return own[: right + 1]

    return version


def not_truncated(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    own = own_choices(model, cache, token, guesses)
    return own[: matches(guesses, own) + 1]


def one_off(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """Compares a guess with what follows it."""
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    right = matches(guesses, own[1:])
    cache.truncate(past + 1 + right)
    return [*guesses[:right], own[right]]


def all_that_match(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    kept = [
        guess for guess, choice in zip(guesses, own, strict=False) if guess == choice
    ]
    cache.truncate(past + 1 + len(kept))
    return [*kept, own[len(kept)]]


def counted(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """As many tokens of the model's own as guesses match anywhere."""
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    right = sum(guess == choice for guess, choice in zip(guesses, own, strict=False))
    cache.truncate(past + 1 + right)
    return own[: right + 1]


def guesses_counted(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """The first guesses, as many as match anywhere."""
    own = counted(model, cache, token, guesses)
    return [*guesses[: len(own) - 1], own[-1]]


def all_own(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """All that the model says; the cache is right."""
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    cache.truncate(past + 1 + matches(guesses, own))
    return own


def all_own_kept(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    return own_choices(model, cache, token, guesses)


def back_to_past(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    cache.truncate(past)
    return own[: matches(guesses, own) + 1]


def one_place_more(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """One token too many, where the cache has one."""
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    right = matches(guesses, own)
    cache.truncate(min(past + 2 + right, cache.length))
    return own[: right + 1]


def guesses_alone(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """Without the model's own token."""
    return verify(model, cache, token, guesses)[:-1]


def own_on_mismatch(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    return verify(model, cache, token, guesses)[: max(1, len(guesses))]


def wrong_guess_kept(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """The guess that is wrong, where the model's own choice belongs."""
    result = verify(model, cache, token, guesses)
    return [*result[:-1], [*guesses, result[-1]][len(result) - 1]]


def all_or_nothing(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    past = cache.length
    own = own_choices(model, cache, token, guesses)
    right = len(guesses) if own[:-1] == guesses else 0
    cache.truncate(past + 1 + right)
    return own[: right + 1]


def token_included(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    return [token, *verify(model, cache, token, guesses)]


def token_in_place_of_own(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    return [token, *verify(model, cache, token, guesses)[:-1]]


@torch.inference_mode()
def from_an_empty_cache(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    """The cache is not handed to the model: the pass sees nothing of the text
    before."""
    own = model(torch.tensor([[token, *guesses]]))[0].argmax(-1).tolist()
    return own[: matches(guesses, own) + 1]


@torch.inference_mode()
def own_fed(
    model: DecoderOnlyModel, cache: KVCache, token: int, guesses: list[int]
) -> list[int]:
    result = verify(model, cache, token, guesses)
    model(torch.tensor([result[-1:]]), kv_cache=cache)
    return result


# --- cases

PROMPT = random_ids(1, 6)
OTHER = 49  # the model never chooses it


def truth(model: DecoderOnlyModel, text: list[int], n: int) -> list[int]:
    """The n tokens that the model says after `text`, one pass for each."""
    text = list(text)
    for _ in range(n):
        text.append(model(torch.tensor([text]))[0, -1].argmax().item())
    return text[len(text) - n :]


def verify_cases() -> Iterator[Case]:
    model = tiny_model()
    prompt = PROMPT[0].tolist()
    token, *right = truth(model, prompt, 6)
    # right after a wrong one
    lucky = truth(model, [*prompt, token, right[0], OTHER], 2)

    def fresh(capacity: int = 16) -> KVCache:
        return held(model, PROMPT, capacity)

    yield case(model, fresh(), token, [right[0]], name="the guess is right")
    yield case(
        model, fresh(), token, [OTHER, right[1]], name="the first guess is wrong"
    )
    yield case(
        model, fresh(), token, [*right[:2], OTHER], name="two right, then a wrong one"
    )
    yield case(
        model, fresh(6), token, right, name="five right ones; the cache has to grow"
    )
    yield case(
        model, fresh(), token, [right[0], OTHER, *lucky], name="a wrong one in between"
    )
    yield case(model, fresh(), token, [], name="no guess: a decode step")


def passes(function: Verify) -> str | None:
    """Counts the passes and the positions in them."""
    model = tiny_model()
    token, *right = truth(model, PROMPT[0].tolist(), 5)
    fed: list[int] = []
    cache = held(model, PROMPT, 16)
    model.embed_tokens.register_forward_pre_hook(
        lambda _, args: fed.append(args[0].shape[1])
    )
    function(model, cache, token, [*right[:3], OTHER])
    if fed == [5]:
        return None
    return (
        f"for 4 guesses the model runs {len(fed)} times, over {sum(fed)} positions. "
        "One pass over 5 positions has all the logits."
    )


VERIFY = Exercise(
    "06.verify",
    reference=verify,
    cases=verify_cases,
    call=seen,
    wrong={
        "that leaves the wrong guesses in the cache": not_truncated,
        "whose cache forgets `token` or the last right guess: it ends one too early": (
            ending_at(-1)
        ),
        "whose cache keeps the first wrong guess: it ends one too late": ending_at(1),
        "that compares a guess with the logits after it; those before it count": (
            one_off
        ),
        "that takes right guesses after a wrong one; they follow a text that is not there": (
            all_that_match
        ),
        "that counts all guesses that match; only those before the first wrong one are right": (
            counted
        ),
        "that counts all guesses that match, and returns so many from the start": (
            guesses_counted
        ),
        "that returns all the model's choices, also those after the first wrong guess": (
            all_own
        ),
        "that returns all the model's choices and leaves all guesses in the cache": (
            all_own_kept
        ),
        "that empties the cache of `token` and of the right guesses too": back_to_past,
        "whose cache keeps one token too many, where there is one": one_place_more,
        "without the model's own token at the end": guesses_alone,
        "without the model's own token when all guesses are right": own_on_mismatch,
        "that returns the wrong guess in place of the model's own token": (
            wrong_guess_kept
        ),
        "that takes all guesses or none": all_or_nothing,
        "that returns `token` again": token_included,
        "that returns `token` and the right guesses; the model's own token is missing": (
            token_in_place_of_own
        ),
        "that feeds the model's own token too; that is the next call's affair": own_fed,
        "that does not hand the cache to the model": from_an_empty_cache,
    },
    properties=(passes,),
)
