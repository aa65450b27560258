"""Small models that exercises are tried on."""

import torch

from llm_course.config import EngineConfig, ModelConfig
from llm_course.exercises.inputs import seeded
from llm_course.models import DecoderOnlyModel, build_decoder_only_model


def random_model(
    config: ModelConfig, scale: float, seed: int = 0, dtype: str = "float32"
) -> DecoderOnlyModel:
    """The same random weights at each call, matrices `scale` times as large as a new
    model's, so that the logits differ; frozen."""
    with seeded(seed), torch.no_grad():
        settings = EngineConfig(device="cpu", dtype=dtype)
        model = build_decoder_only_model(config, settings)
        for weight in model.parameters():
            weight.mul_(scale if weight.ndim == 2 else 0.5 + torch.rand_like(weight))
    return model.requires_grad_(False)
