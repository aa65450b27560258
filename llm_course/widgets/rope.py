"""The RoPE lab of notebook 02: clocks, wavelengths, scores by offset, and what each way
to pair channels does to a sentence."""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, cast

import torch
import traitlets as t
from matplotlib.figure import Figure
from torch import Tensor, nn

from llm_course.config import ModelConfig
from llm_course.models.attention import SelfAttention, capture_attention
from llm_course.models.rope import RotaryEmbedding, apply_rotary
from llm_course.text import Tokenizer
from llm_course.viz.rope import wavelengths
from llm_course.widgets.base import LabWidget, ids_to_draw, page_part

DIALS, OFFSETS, MAX_TOKENS, WORDS = 8, 128, 24, 3
FACTOR = 4.0  # by which both kinds of scaling slow the slowest pairs


class LabRotary(RotaryEmbedding):
    """RoPE without a table, for any position, with the mistakes that one can make.

    `pairs`: "adjacent" is the course's; "half-split" reorders the channels and rotates
    x[i] with x[i + D/2]; "wrong" does that without reordering. `rounded`: positions,
    frequencies and angles in bfloat16.
    """

    def __init__(
        self,
        head_dim: int,
        rope_theta: float,
        rope_scaling: dict[str, Any] | None = None,
        pairs: str = "adjacent",
        rounded: bool = False,
    ) -> None:
        super().__init__(head_dim, 1, rope_theta, rope_scaling)
        self.pairs, self.rounded = pairs, rounded
        halves = torch.arange(head_dim).view(2, -1)  # [2, D/2]
        self._order = halves.T.flatten()  # place j holds channel order[j]
        self._back = self._order.argsort()

    def cos_sin(self, position_ids: Tensor) -> tuple[Tensor, Tensor]:
        kind = torch.bfloat16 if self.rounded else torch.float32
        device = position_ids.device
        places, speeds = position_ids.to(kind), self.inv_freq.to(device, kind)
        angles = (places[..., None] * speeds).float()  # [B, S, D/2]
        return angles.cos(), angles.sin()

    def forward(
        self, q: Tensor, k: Tensor, position_ids: Tensor
    ) -> tuple[Tensor, Tensor]:
        table = self.cos_sin(position_ids)
        return self._turn(q, *table), self._turn(k, *table)

    def _turn(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        if self.pairs == "adjacent":
            return apply_rotary(x, cos, sin)
        if self.pairs == "half-split":
            x = x[..., self._back]  # as a half-split checkpoint stores the rows
        return apply_rotary(x[..., self._order], cos, sin)[..., self._back]


class RopeLab(LabWidget):
    """Frequencies by θ, width and scaling; scores by offset; a sentence by pairing.

    The curves take q and k whose pairs all have length 1 and the same direction, and
    show q·k as a mean over pairs: 1 says that every pair points the same way.
    """

    _esm = page_part("rope_charts", "rope")
    _css = page_part("rope", kind=".css")
    chart = t.Dict().tag(sync=True)  # of the frequencies
    sentence = t.Dict().tag(sync=True)  # the map of one head, and the next token

    def __init__(
        self,
        model: nn.Module,
        tokenizer: Tokenizer,
        sentence: str,
        layer: int = 0,
        head: int = 0,
    ) -> None:
        self.model, self.tokenizer, self.place = model, tokenizer, (layer, head)
        self._read = lru_cache(maxsize=8)(self._read_sentence)
        config = cast(ModelConfig, model.config)
        settings: dict[str, Any] = {"theta": round(math.log10(config.rope_theta), 1)}
        settings |= {"head_dim": str(config.head_dim), "scaling": "none"}
        settings |= {"context": int(math.log2(config.max_position_embeddings))}
        last = config.max_position_embeddings - 1
        settings |= {"position": min(100, last), "offset": 3, "pair": 0}
        settings |= {"rounded": False}
        settings |= {"text": sentence, "pairs": "adjacent"}
        super().__init__(name="RoPE lab", settings=settings)
        self.do_show(settings)

    def figure(self) -> Figure:
        """Positions per turn of each pair, against the context."""
        context = 2 ** self.settings["context"]
        return wavelengths(self.rotary(self.settings).inv_freq, context)

    def rotary(
        self, settings: dict[str, Any], head_dim: int | None = None
    ) -> LabRotary:
        """The rotation of these settings, of another width if asked."""
        context, kind = 2 ** settings["context"], settings["scaling"]
        scaling = None if kind == "none" else {"rope_type": kind, "factor": FACTOR}
        if scaling and kind == "llama3":
            scaling |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0}
            scaling |= {"original_max_position_embeddings": context}
        dim, theta = head_dim or int(settings["head_dim"]), 10 ** settings["theta"]
        return LabRotary(dim, theta, scaling, settings["pairs"], settings["rounded"])

    def do_show(self, settings: dict[str, Any]) -> None:
        """Draw everything for these settings."""
        self.chart = self._frequencies(settings)
        names = ("text", "theta", "scaling", "context", "pairs", "rounded")
        try:
            self.sentence = self._read(*(settings[name] for name in names))
        except Exception:
            self.sentence = {}  # no map of something else stays
            raise

    def _frequencies(self, settings: dict[str, Any]) -> dict[str, Any]:
        rotary, context = self.rotary(settings), 2 ** settings["context"]
        turn = 2 * math.pi / rotary.inv_freq  # [D/2] positions per turn
        position = min(settings["position"], context - 1)
        places = torch.tensor([position, max(0, position - settings["offset"])])
        q, k = (places[:, None] * rotary.inv_freq.double()).tolist()  # angles of pairs
        step = max(1, len(turn) // DIALS)
        shown, never = range(0, len(turn), step), turn > context
        dials = [
            [i, math.fmod(q[i], 2 * math.pi), int(q[i] / (2 * math.pi)), k[i]]
            for i in shown
        ]
        return {
            "turns": turn.tolist(),
            "never": never.tolist(),
            "context": context,
            "position": position,
            "offset": settings["offset"],
            "dials": dials,
            "curves": self._curves(rotary, settings, position),
            "places": places.tolist(),
            "read_as": (places.bfloat16() if rotary.rounded else places).tolist(),
            "score": float(pair_scores(rotary, places[:1], places[1:]).mean()),
        }

    def _curves(
        self, rotary: LabRotary, settings: dict[str, Any], position: int
    ) -> list[Any]:
        """q where it is and k at each offset before it, also where no text would be:
        name and mean q·k over one pair, four, all."""
        offsets = torch.arange(OFFSETS + 1)
        q_places = torch.full_like(offsets, position)
        parts = pair_scores(rotary, q_places, position - offsets)  # [O, D/2]
        pair = min(settings["pair"], parts.shape[1] - 1)
        curves = {
            f"pair {pair}": parts[:, pair],
            "pairs 0 to 3": parts[:, :4].mean(1),
            f"all {parts.shape[1]}": parts.mean(1),
        }
        return [[name, values.tolist()] for name, values in curves.items()]

    def _read_sentence(self, text: str, *values: Any) -> dict[str, Any]:
        """One head's map of a sentence, and the likeliest next tokens, with the
        rotation of these settings in every layer."""
        ids = ids_to_draw(self.tokenizer, text, 2, MAX_TOKENS, "sentence", "lab")
        names = ("theta", "scaling", "context", "pairs", "rounded")
        head_dim = cast(ModelConfig, self.model.config).head_dim
        rotary = self.rotary(dict(zip(names, values, strict=True)), head_dim)
        layer, head = self.place
        attending = [m for m in self.model.modules() if isinstance(m, SelfAttention)]
        kept = [module.rotary for module in attending]
        try:
            for module in attending:
                module.rotary = rotary
            with torch.inference_mode(), capture_attention(self.model, [layer]) as maps:
                logits = self.model(torch.tensor([ids]), last_only=True)[0, -1]
        finally:
            for module, own in zip(attending, kept, strict=True):
                module.rotary = own
        weights = maps[layer][0, head].float().cpu()  # [S, S]
        probs = logits[: self.tokenizer.vocab_size].float().softmax(-1).cpu()
        best = probs.topk(WORDS).indices.tolist()
        return {
            "tokens": self.tokenizer.tokens(list(ids)),
            "weights": weights.tolist(),
            "head": f"layer {layer}, head {head}",
            "previous": float(weights.diagonal(-1).mean()),
            "words": list(
                zip(self.tokenizer.tokens(best), probs[best].tolist(), strict=True)
            ),
        }


def pair_scores(rotary: LabRotary, q_places: Tensor, k_places: Tensor) -> Tensor:
    """What each pair adds to q·k for q and k at these places [P]: [P, D/2], from -1 to
    1. Before they turn, all pairs of both are (1, 0)."""
    one = torch.eye(2)[0].repeat(len(rotary.inv_freq))  # [D]
    ones = one.expand(1, 1, len(q_places), -1)  # [1, 1, P, D]
    q = apply_rotary(ones, *rotary.cos_sin(q_places[None]))
    k = apply_rotary(ones, *rotary.cos_sin(k_places[None]))
    return (q * k)[0, 0].unflatten(-1, (-1, 2)).sum(-1)
