"""The ways in which a config.json says how RoPE turns: its θ, and the scaling of long
contexts.

`transformers` 5 writes `rope_parameters`, with θ inside; version 4 wrote `rope_theta`
beside `rope_scaling`. Both are read, and both are written.
"""

from __future__ import annotations

from typing import Any

from llm_course.config import ROPE_SCALING, ModelConfig


def read_rope(
    values: dict[str, Any],
) -> tuple[float | None, dict[str, Any] | None, list[str]]:
    """Return (θ, scaling, problems) of a config.json's contents.

    θ is None where it is missing (there is no default: 10000 would be silently wrong
    for many models). The scaling is None for plain RoPE, else {"rope_type": kind, ...}
    with the numbers of that kind.
    """
    problems: list[str] = []
    found: list[tuple[str, dict[str, Any]]] = []
    for spelling in ("rope_parameters", "rope_scaling"):
        given = values.get(spelling)
        if isinstance(given, dict):
            found.append((spelling, given))
        elif given is not None:
            problems.append(f"{spelling} = {given!r:.100}: must be an object")

    thetas = [
        t
        for t in (values.get("rope_theta"), *(g.get("rope_theta") for _, g in found))
        if t
    ]
    if any(theta != thetas[0] for theta in thetas):
        problems.append(f"two values of rope_theta, {thetas!s:.100}: keep one")
    if not thetas:
        problems.append("lacks rope_theta (or rope_parameters.rope_theta)")

    factors = [values, *(given for _, given in found)]
    for factor in (f.get("partial_rotary_factor") for f in factors):
        if factor not in (None, 1):
            problems.append(
                f"partial_rotary_factor = {factor!r:.100}: only whole heads can turn"
            )

    scalings = []
    for spelling, given in found:
        kind = given.get("rope_type", given.get("type", "default"))
        if not isinstance(kind, str) or kind not in ROPE_SCALING:
            problems.append(
                f"{spelling} of kind {kind!r:.100}: the known kinds are"
                f" {', '.join(ROPE_SCALING)}"
            )
        elif wrong := [
            name for name in ROPE_SCALING[kind] if not _is_positive(given.get(name))
        ]:
            problems.append(
                f"{spelling} of kind {kind!r}: needs numbers for {', '.join(wrong)}"
            )
        elif kind != "default":
            scalings.append(
                {"rope_type": kind} | {name: given[name] for name in ROPE_SCALING[kind]}
            )
    if any(scaling != scalings[0] for scaling in scalings):
        problems.append("rope_parameters and rope_scaling disagree: keep one")
    return next(iter(thetas), None), next(iter(scalings), None), problems


def rope_json(config: ModelConfig) -> dict[str, Any]:
    """Return the config.json entries for a model's RoPE, in both spellings."""
    scaling = config.rope_scaling
    parameters = {
        "rope_theta": config.rope_theta,
        **(scaling or {"rope_type": "default"}),
    }
    return {
        "rope_parameters": parameters,
        "rope_theta": config.rope_theta,
        **({"rope_scaling": scaling} if scaling else {}),
    }


def _is_positive(value: Any) -> bool:
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value < 1e30
    )
