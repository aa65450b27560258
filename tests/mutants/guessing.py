"""Mutants of llm_course/engine/guessing.py: which guesses count, and what they leave
behind."""

from __future__ import annotations

from tests.mutants import mutants_of

G = "test_guessing.py::"
SAME_TOKENS = f"{G}test_every_setting_gives_the_tokens_it_gives_without_guesses"
CIRCLE = f"{G}test_a_loop_takes_few_passes_and_the_cache_never_counts_a_guess"
KEYS = f"{G}test_real_keys_stand_in_the_cache_after_each_token"
DRAWS = f"{G}test_draws_follow_the_probabilities_whether_a_guess_was_right_or_not"
WRONG = f"{G}test_wrong_guesses_cost_passes_but_change_nothing"

GUESSING = mutants_of(
    "engine.guessing",
    (
        "every guess is taken for right",
        "if self.guesses and self.guesses[0] == ids[0, -1]:",
        "if self.guesses:",
        SAME_TOKENS,
        WRONG,
        DRAWS,
    ),
    (
        "no guess is taken for right",
        "if self.guesses and self.guesses[0] == ids[0, -1]:",
        "if False:",
        CIRCLE,
    ),
    (
        "guesses are compared one place too late",
        "self.guesses[0] == ids[0, -1]",
        "self.guesses[-1] == ids[0, -1]",
        SAME_TOKENS,
        DRAWS,
    ),
    (
        "a right guess is answered with the logits before it",
        "self.guesses, self.kept = self.guesses[1:], self.kept[:, 1:]",
        "self.guesses = self.guesses[1:]",
        SAME_TOKENS,
        DRAWS,
    ),
    (
        "a token that is no guess is drawn from what is left without it",
        "logits = model(fed, attention_mask=seen, kv_cache=cache)",
        "logits = model(fed, attention_mask=seen, kv_cache=cache).clone()\n"
        "    logits[:, range(len(guesses)), guesses] = -torch.inf",
        DRAWS,
        CIRCLE,
    ),
    (
        "guesses stay in the cache",
        "    cache.truncate(past)  # forgets them, but erases nothing",
        "    cache.truncate(past + 1)",
        CIRCLE,
        KEYS,
    ),
    (
        "nothing is truncated",
        "    cache.truncate(past)  # forgets them, but erases nothing",
        "    pass",
        CIRCLE,
        KEYS,
    ),
    (
        "a right guess is not counted in the cache",
        "kv_cache.advance(1)",
        "pass",
        CIRCLE,
        KEYS,
    ),
    (
        "the mask ends before the guesses",
        "pad(mask, (0, len(guesses)), value=True)",
        "mask",
        f"{G}test_a_row_with_padding_is_guessed_as_well",
    ),
    (
        "several rows decide near ties too",
        "return int((logits >= high - CLOSE * rounding * max(-low, high)).sum()) > 1",
        "return False",
        f"{G}test_near_ties_are_left_to_a_pass_over_one_row",
    ),
    (
        "integers round as little as floats",
        'getattr(model, "rounding", torch.finfo(logits.dtype).eps)',
        "torch.finfo(logits.dtype).eps",
        f"{G}test_near_ties_are_as_wide_as_the_rounding_of_the_model",
    ),
    (
        "a pass looks past the last token",
        "k = min(self.config.guess_ahead, self.left)",
        "k = self.config.guess_ahead",
        f"{G}test_no_pass_looks_past_the_last_token",
    ),
    (
        "a pass looks past the end of the cache",
        "k = min(k, cache.max_length - ids.shape[1])",
        "pass",
        f"{G}test_a_full_cache_fails_at_the_token_at_which_it_fails_without_guesses",
    ),
    (
        "guesses cost nothing",
        "self.account -= self.kept.shape[1] / 4",
        "pass",
        f"{G}test_guesses_stop_when_they_do_not_pay_and_come_back_sparingly",
    ),
    (
        "right guesses earn nothing",
        "self.account += 1",
        "pass",
        f"{G}test_guesses_go_on_while_they_pay",
    ),
    (
        "the account has no limit",
        "min(self.account + INCOME, MOST)",
        "self.account + INCOME",
        f"{G}test_long_luck_is_soon_used_up",
    ),
    (
        "the first place, not the latest",
        "self.followed[tuple(text[i - SAME : i])] = i",
        "self.followed.setdefault(tuple(text[i - SAME : i]), i)",
        f"{G}test_what_followed_the_last_tokens_before",
    ),
    (
        "a place beyond the end of the text",
        "for i in range(self.read, len(text)):",
        "for i in range(self.read, len(text) + 1):",
        f"{G}test_what_followed_the_last_tokens_before",
    ),
)
