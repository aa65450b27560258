"""Real weights: download, read, convert and save checkpoints.

Start with `load_pretrained("smollm2-135m-instruct")`, which returns a model and its
tokenizer, or with `load_tensors(...)`, which returns the same weights as a plain dict
and needs no model code at all. The first use downloads the pinned model (93 MB) and
converts it (0.5 GB) in the user's cache folder; later uses read the converted copy. Two
environment variables matter: `LLM_COURSE_CACHE` moves the cache folder, and
`LLM_COURSE_WEIGHTS` names a folder that already holds the GGUF file, so that nothing is
downloaded. Whatever goes wrong with a file is a `CheckpointError`
(`llm_course.errors`).

`load_pretrained(path, weights="file")` keeps a GGUF file's own numbers, for the
compiled kernels of `llm_course.engine`.

`save_pretrained` goes the other way: a model becomes a folder that `transformers`
loads.

One convention runs through this package: **in memory, the rows of q and k are in
adjacent-pair order** (RoPE rotates channels 2i and 2i+1 together), as
`llm_course.models` wants them. GGUF files of Llama and Mistral models hold them so;
those of Qwen models and Hugging Face files hold them half-split (channels i and
i + d/2) and are permuted when read.

Names are imported when first used.
"""

from llm_course._lazy import lazy_exports

__getattr__, __dir__, __all__ = lazy_exports(
    __name__,
    {
        "cache": ("cache_dir",),
        "convert": ("convert_gguf", "converted_folder"),
        "download": ("PINNED_MODELS", "PinnedModel", "ensure_gguf"),
        "gguf_file": ("read_gguf",),
        "gguf_kinds": ("dequantize",),
        "huggingface": ("read_folder",),
        "layout": ("Checkpoint", "to_adjacent", "to_half_split"),
        "loading": ("load_pretrained", "load_tensors"),
        "saving": ("save_pretrained",),
    },
)
