"""What a model is (`ModelConfig`), where it runs (`EngineConfig`), how it samples
(`GenerationConfig`).

All three are frozen dataclasses that check themselves when they are made: an impossible
value raises `ConfigError`, a ValueError, with the field's name, the value and the fix,
long before a tensor has the wrong shape.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, NoReturn, Self, cast

from llm_course.errors import CheckpointError, ConfigError
from llm_course.files import file_at, read_json

DTYPES = ("float32", "bfloat16", "float16")
# kind of RoPE scaling -> the numbers that it needs
ROPE_SCALING = {
    "default": (),
    "linear": ("factor",),
    "llama3": (
        "factor",
        "low_freq_factor",
        "high_freq_factor",
        "original_max_position_embeddings",
    ),
}


_LARGEST_SIZE = 2**62  # of what is counted: far above any model, and no overflow
_LARGEST = sys.float_info.max


def _reject(config: object, field: str, fix: str) -> NoReturn:
    _refuse(f"{type(config).__name__}.{field}", getattr(config, field), fix)


def _refuse(name: str, value: object, fix: str) -> NoReturn:
    try:
        shown = f"{value!r:.200}"
    except ValueError:  # Python prints no whole number of more than 4300 digits
        shown = "a number of thousands of digits"
    raise ConfigError(f"{name} = {shown}: {fix}")


def _is_number(value: object, low: float, high: float = _LARGEST) -> bool:
    """Say whether it is a number in [low, high]; NaN fails every comparison."""
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and low <= cast(float, value) <= high


def _is_positive(value: object) -> bool:
    return _is_number(value, sys.float_info.min)


def _is_whole(value: object, low: int, high: int) -> bool:
    return isinstance(value, int) and _is_number(value, low, high)


def _require_positive_ints(config: object, *names: str) -> None:
    for name in names:
        if not _is_whole(getattr(config, name), 1, _LARGEST_SIZE):
            _reject(config, name, "must be a whole number of at least 1")


def _require_bools(config: object, *names: str) -> None:
    for name in names:
        if not isinstance(getattr(config, name), bool):
            _reject(config, name, "must be True or False")


def _require_number(
    config: object, name: str, low: float, high: float = _LARGEST
) -> None:
    if not _is_number(getattr(config, name), low, high):
        bound = (
            f"from {low:g} to {high:g}" if high < _LARGEST else f"of at least {low:g}"
        )
        _reject(config, name, f"must be a finite number {bound}")


def check_rope_scaling(given: Any, name: str = "rope_scaling") -> None:
    """Raise ConfigError for what is no scaling: neither None nor a dict of a known kind
    with the numbers that it needs."""
    if given is None:
        return
    kinds = ", ".join(ROPE_SCALING)
    if not isinstance(given, dict):
        fix = f'must be None or {{"rope_type": …}}, one of {kinds}'
        _refuse(name, given, fix)
    kind: Any = given.get("rope_type")
    if not isinstance(kind, str) or kind not in ROPE_SCALING:
        _refuse(name, given, f"its rope_type must be one of {kinds}")
    needed = ROPE_SCALING[kind]
    if not all(_is_positive(given.get(number)) for number in needed):
        fix = f"{kind} needs positive numbers for {', '.join(needed)}"
        _refuse(name, given, fix)
    if unknown := sorted({*map(str, given)} - {"rope_type", *needed}):
        fix = f"{kind} knows nothing of {', '.join(unknown):.200}: take it out"
        _refuse(name, given, fix)
    if kind == "llama3" and given["low_freq_factor"] >= given["high_freq_factor"]:
        _refuse(name, given, "low_freq_factor must be below high_freq_factor")


class _FromJson:
    @classmethod
    def from_json(cls, path: str | Path) -> Self:
        """Read the config from a JSON file whose keys are this class's field names.

        Raises ConfigError that names the file when there is none, when it is not a JSON
        object or when it has an unknown key.
        """
        try:
            values = read_json(file_at(path))
        except CheckpointError as error:
            raise ConfigError(str(error)) from error
        return cls.from_dict(values, source=str(path))

    @classmethod
    def from_dict(cls, values: dict[str, Any], source: str = "the given dict") -> Self:
        if not isinstance(values, dict):
            raise ConfigError(
                f"{source} holds {type(values).__name__}, not an object of fields"
            )
        known = [field.name for field in fields(cast(Any, cls))]
        if unknown := sorted(f"{key!s:.100}" for key in set(values) - set(known)):
            raise ConfigError(
                f"{source} has unknown fields {unknown}; {cls.__name__} knows {known}"
            )
        try:
            return cls(**values)
        except TypeError as error:  # a field without a default is missing
            raise ConfigError(f"{source}: {error}") from error


@dataclass(frozen=True)
class ModelConfig(_FromJson):
    """The shape of a Llama-architecture model. Dimensions are counts, `rope_theta` is
    unitless.

    `qkv_bias` adds a bias to q, k and v, as in Qwen2; `qk_norm` norms each head's
    queries and keys before RoPE, as in Qwen3. A `rope_scaling` of kind "default" is
    none, and becomes None.
    """

    vocab_size: int
    hidden_dim: int
    intermediate_dim: int
    num_layers: int
    num_heads: int
    # These two may be left out, or None; __post_init__ then computes them.
    num_kv_heads: int = cast(int, None)  # as many as num_heads: no grouping
    head_dim: int = cast(int, None)  # hidden_dim / num_heads
    max_position_embeddings: int = 4096
    rope_theta: float = 10000.0
    rope_scaling: dict[str, Any] | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    qkv_bias: bool = False
    qk_norm: bool = False

    def __post_init__(self) -> None:
        _require_positive_ints(
            self,
            "vocab_size",
            "hidden_dim",
            "intermediate_dim",
            "num_layers",
            "num_heads",
        )
        if self.num_kv_heads is None:
            object.__setattr__(self, "num_kv_heads", self.num_heads)
        if self.head_dim is None:
            if self.hidden_dim % self.num_heads:
                fix = f"must divide hidden_dim = {self.hidden_dim}, or give head_dim"
                _reject(self, "num_heads", fix)
            object.__setattr__(self, "head_dim", self.hidden_dim // self.num_heads)
        _require_positive_ints(
            self, "num_kv_heads", "head_dim", "max_position_embeddings"
        )
        if self.num_heads % self.num_kv_heads:
            _reject(self, "num_kv_heads", f"must divide num_heads = {self.num_heads}")
        if self.head_dim % 2:
            _reject(self, "head_dim", "must be even: RoPE rotates pairs of channels")
        _require_number(self, "rope_theta", 1.0)
        _require_number(self, "rms_norm_eps", 0.0)
        self._normalise_rope_scaling()
        _require_bools(self, "tie_word_embeddings", "qkv_bias", "qk_norm")

    def _normalise_rope_scaling(self) -> None:
        """Leave None, or a dict of this config's own with the numbers of its kind."""
        given = self.rope_scaling
        check_rope_scaling(given, "ModelConfig.rope_scaling")
        if given is None:
            return
        own = None if given["rope_type"] == "default" else dict(given)
        object.__setattr__(self, "rope_scaling", own)

    @property
    def num_query_groups(self) -> int:
        """Query heads that share one key/value head."""
        return self.num_heads // self.num_kv_heads


@dataclass(frozen=True)
class EngineConfig(_FromJson):
    """Where and how precisely the model runs.

    `device`: "auto" (CUDA, then Apple's MPS, then the CPU) or a torch device such as
    "cpu", "cuda:0". `dtype`: one of float32, bfloat16, float16; of the weights and
    activations.
    """

    device: str = "auto"
    dtype: str = "float32"

    def __post_init__(self) -> None:
        if not isinstance(self.device, str) or not self.device:
            _reject(
                self,
                "device",
                'must be "auto" or the name of a torch device such as "cpu"',
            )
        if self.dtype not in DTYPES:
            _reject(self, "dtype", f"must be one of {', '.join(DTYPES)}")


@dataclass(frozen=True)
class GenerationConfig(_FromJson):
    """How many tokens to generate and how to choose each.

    The filters apply in this order: repetition penalty, temperature, top-k, top-p,
    min-p. `top_k` 0 or None, `top_p` 1, `min_p` 0 and `repetition_penalty` 1 each
    switch their filter off; `temperature` 0 or `do_sample` False always takes the most
    probable token. `use_cache` False computes the whole sequence anew for every token:
    the same tokens, slowly. `guess_ahead` is how many tokens a pass may judge that were
    guessed from the text; 0 makes no guesses, and the tokens are the same.
    """

    max_new_tokens: int = 64
    do_sample: bool = True
    temperature: float = 1.0
    top_k: int | None = 50
    top_p: float = 1.0
    min_p: float = 0.0
    repetition_penalty: float = 1.0
    seed: int | None = None
    use_cache: bool = True
    guess_ahead: int = 0

    def __post_init__(self) -> None:
        _require_positive_ints(self, "max_new_tokens")
        _require_bools(self, "do_sample", "use_cache")
        if not _is_whole(self.guess_ahead, 0, _LARGEST_SIZE):
            _reject(
                self, "guess_ahead", "must be a whole number of at least 0 (0 is off)"
            )
        _require_number(self, "temperature", 0.0)
        if self.top_k is not None and not _is_whole(self.top_k, 0, _LARGEST_SIZE):
            _reject(
                self, "top_k", "must be None or a whole number of at least 0 (0 is off)"
            )
        _require_number(self, "top_p", 0.0, 1.0)
        _require_number(self, "min_p", 0.0, 1.0)
        _require_number(self, "repetition_penalty", 0.0)
        if self.repetition_penalty == 0:
            _reject(self, "repetition_penalty", "must be above 0 (1 is off)")
        # what a torch.Generator takes
        if self.seed is not None and not _is_whole(self.seed, -(2**63), 2**64 - 1):
            fix = "must be None or a whole number from -2^63 to 2^64 - 1"
            _reject(self, "seed", fix)
