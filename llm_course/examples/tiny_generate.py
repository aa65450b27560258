"""The whole inference flow on a tiny model with random weights; nothing is downloaded.

python -m llm_course.examples.tiny_generate
"""

from __future__ import annotations

import argparse
from pathlib import Path

import torch

from llm_course.config import EngineConfig, GenerationConfig, ModelConfig
from llm_course.engine import generate
from llm_course.models import build_decoder_only_model


def main() -> None:
    # 1. Three configs: the model's shape, where it runs, how it samples.
    model_config = ModelConfig.from_json(
        Path(__file__).parents[1] / "configs" / "tiny_model.json"
    )
    engine_config = EngineConfig()
    gen_config = GenerationConfig(max_new_tokens=8, temperature=0.8, top_k=50, seed=0)

    # 2. The model. Its weights are random, so its tokens mean nothing.
    torch.manual_seed(0)
    model = build_decoder_only_model(model_config, engine_config)
    print(f"parameters: {sum(p.numel() for p in model.parameters()):,}")

    # 3. One forward pass: token ids [B, S] to logits [B, S, vocab].
    input_ids = torch.tensor([[1, 2, 3, 4]])
    with torch.inference_mode():
        logits = model(input_ids)
    print(f"logits: {list(logits.shape)}")

    # 4. The loop: eight new tokens after the prompt, [B, S + 8].
    output_ids = generate(model, input_ids, model_config, engine_config, gen_config)
    print(f"generated: {output_ids[0, input_ids.shape[1] :].tolist()}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description="Run a tiny model with random weights."
    )
    parser.parse_args()  # there are no options: refuse what is given
    main()
