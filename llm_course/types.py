"""The names used for tensors in signatures, and what the model asks of a key/value
cache."""

from __future__ import annotations

from typing import Annotated, Protocol, runtime_checkable

from torch import Tensor

from llm_course.arguments import Must

# What `checked` asks of a tensor beside its type; sizes are the functions' business.
_VECTORS = Must(
    "be floating-point numbers, with at least one dimension",
    lambda x: x.is_floating_point() and x.ndim > 0,
)

TokenIds = Tensor  # [B, S] int64: ids into the vocabulary
# [B, S, hidden] floating point: one vector per position
HiddenStates = Annotated[Tensor, _VECTORS]
# [B, S, vocab] floating point: unnormalised log-probabilities
Logits = Annotated[Tensor, _VECTORS]


@runtime_checkable
class Cache(Protocol):
    """Keys and values of the tokens a model has already seen.

    One object serves all layers: each layer calls `update` once a forward pass, and the
    model calls `advance` once, after its last layer. Between the two, `length` does not
    change.
    """

    @property
    def length(self) -> int:
        """Tokens seen before this forward pass, equal for all layers."""
        ...

    def update(self, layer_idx: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k and v [B, Hkv, S, D] of one layer; return all of them [B, Hkv,
        length + S, D].

        k arrives already rotated by RoPE.
        """
        ...

    def advance(self, n: int) -> None:
        """Count n more tokens as seen."""
        ...
