"""The check of 06.verify: several guessed tokens, judged by one forward pass."""

from typing import Any

import torch

from llm_course.engine import KVCache
from llm_course.exercises import Case, Cases, Complaints, Exercise, Function, Observed
from llm_course.exercises.ch06.models import contents, held, tiny_model, token_ids
from llm_course.models import DecoderOnlyModel as Model

PROMPT = token_ids(1, 6)
OTHER = 49  # the model never chooses it


def seen(function: Function, model: Any, cache: KVCache, *rest: Any) -> Observed:
    """What is returned, and what the cache holds afterwards."""
    used = "The keys and values in use [L, 2, B, Hkv, length, D], afterwards,"
    facts = {
        "Your result": function(model, cache, *rest),
        "The length of the cache, afterwards,": cache.length,
        used: contents(cache),
    }
    return Observed("a list", facts)


@torch.inference_mode()
def verify(model: Model, cache: KVCache, token: int, guesses: list[int]) -> list[int]:
    past, fed = cache.length, torch.tensor([[token, *guesses]])
    own = model(fed, kv_cache=cache)[0].argmax(-1).tolist()
    same = [guess == choice for guess, choice in zip(guesses, own, strict=False)]
    right = [*same, False].index(False)
    cache.truncate(past + 1 + right)
    return own[: right + 1]


def truth(model: Model, text: list[int], n: int) -> list[int]:
    """The n tokens that the model says after `text`, one pass for each."""
    text = list(text)
    for _ in range(n):
        text.append(model(torch.tensor([text]))[0, -1].argmax().item())
    return text[len(text) - n :]


def cases() -> Cases:
    model, prompt = tiny_model(), PROMPT[0].tolist()
    token, *right = truth(model, prompt, 6)
    # right after a wrong one
    lucky = truth(model, [*prompt, token, right[0], OTHER], 2)

    def given(*guesses: int, room: int = 16) -> tuple[Any, ...]:
        return model, held(model, PROMPT, room), token, list(guesses)

    yield Case(*given(right[0]), name="the guess is right")
    yield Case(*given(OTHER, right[1]), name="the first guess is wrong")
    yield Case(*given(*right[:2], OTHER), name="two right, then a wrong one")
    yield Case(*given(*right, room=6), name="five right ones; the cache has to grow")
    yield Case(*given(right[0], OTHER, *lucky), name="a wrong one in between")
    yield Case(*given(), name="no guess: a decode step")


def passes(function: Function) -> Complaints:
    """Counts the passes and the positions in them."""
    model = tiny_model()
    table, cache = model.embed_tokens, held(model, PROMPT, 16)
    token, *right = truth(model, PROMPT[0].tolist(), 5)
    fed: list[int] = []
    table.register_forward_pre_hook(lambda _, args: fed.append(args[0].shape[1]))
    function(model, cache, token, [*right[:3], OTHER])
    if fed != [5]:
        yield (
            f"for 4 guesses the model runs {len(fed)} times, over {sum(fed)} positions."
            " One pass over 5 positions has all the logits."
        )


WRONG = """
that leaves the wrong guesses in the cache
    cache.truncate(past + 1 + right) -> pass
whose cache forgets `token` or the last right guess: it ends one too early
    1 + right -> right
whose cache keeps the first wrong guess: it ends one too late
    1 + right -> 2 + right
that compares a guess with the logits after it; those before it count
    zip(guesses, own -> zip(guesses, own[1:]
    own[: right + 1] -> [*guesses[:right], own[right]]
that takes right guesses after a wrong one; they follow a text that is not there
    [*same, False].index(False) -> sum(same)
    own[: right + 1] -> [*(g for g, s in zip(guesses, same) if s), own[right]]
that counts all guesses that match; only those before the first wrong one are right
    [*same, False].index(False) -> sum(same)
that counts all guesses that match, and returns so many from the start
    [*same, False].index(False) -> sum(same)
    own[: right + 1] -> [*guesses[:right], own[right]]
that returns all the model's choices, also those after the first wrong guess
    own[: right + 1] -> own
that returns all the model's choices and leaves all guesses in the cache
    cache.truncate(past + 1 + right) -> pass ;; own[: right + 1] -> own
that empties the cache of `token` and of the right guesses too
    1 + right -> 0
whose cache keeps one token too many, where there is one
    (past + 1 + right) -> (min(past + 2 + right, cache.length))
without the model's own token at the end
    [: right + 1] -> [:right]
without the model's own token when all guesses are right
    [: right + 1] -> [: right + 1][: max(1, len(guesses))]
that returns the wrong guess in place of the model's own token
    own[: right + 1] -> [*own[:right], [*guesses, own[right]][right]]
that takes all guesses or none
    [*same, False].index(False) -> all(same) * len(same)
that returns `token` again
    own[: right + 1] -> [token, *own[: right + 1]]
that returns `token` and the right guesses; the model's own token is missing
    own[: right + 1] -> [token, *own[:right]]
that feeds the model's own token too; that is the next call's affair
    return -> model(torch.tensor([[own[right]]]), kv_cache=cache); return
that does not hand the cache to the model
    , kv_cache=cache -> ;; cache.truncate(past + 1 + right) -> pass
"""

CHECK = Exercise("06.verify", verify, cases, WRONG, call=seen, rule=passes)
