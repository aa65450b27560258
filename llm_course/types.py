"""The names used for tensors in signatures, and what the model asks of a key/value
cache."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from torch import Tensor

TokenIds = Tensor  # [B, S] int64: ids into the vocabulary
HiddenStates = Tensor  # [B, S, hidden] floating point: one vector per position
Logits = Tensor  # [B, S, vocab] floating point: unnormalised log-probabilities


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
