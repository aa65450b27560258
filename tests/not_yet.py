"""What still lets an error of another library out, or takes what it should not: name
-> arguments. Mend one, and tests/test_public_errors.py asks for it to go from here."""

from __future__ import annotations

NOT_YET = {
    "SelfAttention.forward": "kv_cache",
    "DecoderOnlyModel.forward": "kv_cache",
    "generate": (
        "model input_ids engine_config gen_config logger attention_mask "
        "generator kv_cache"
    ),
    "generate_stream": (
        "model input_ids gen_config attention_mask generator kv_cache logger"
    ),
    "Guesser": "config",
    "choose_token": "logits config generator",
    "sample_next_token": "logits generator",
    "top_k_filtering": "logits top_k",
    "top_p_filtering": "logits top_p",
    "min_p_filtering": "logits min_p",
    "apply_repetition_penalty": "logits input_ids penalty attention_mask",
    "cache_bytes": "config num_tokens batch_size dtype",
    "KVCache": "config batch_size capacity max_length device dtype buffers",
    "KVCache.update": "layer_idx k v",
    "KVCache.advance": "n",
    "KVCache.truncate": "length",
    "KVCacheManager": "config budget device dtype",
    "KVCacheManager.allocate": "num_tokens batch_size",
    "KVCacheManager.free": "cache",
    "prefill": "model input_ids cache mask chunk_size",
    "decode": "model token cache mask",
    "make_cache": "model batch_size capacity max_length",
    "prepare_for_inference": "model weights threads",
    "NativeModel.forward": "input_ids attention_mask position_ids kv_cache last_only",
    "FusedModel": "model",
    "pack": "weight",
    "Engine": "model tokenizer budget max_rows max_step_tokens page_size clock",
    "Engine.add": "request",
    "Scheduler": "pool max_rows max_step_tokens",
    "PagePool": "num_pages page_size",
    "PagedCache": "config num_pages page_size device dtype",
    "Conversation": "model",
    "Conversation.stream": "input_ids gen_config generator",
    "save_pretrained": "folder",
    "convert_gguf": "folder",
    "Tokenizer.from_folder": "folder",
}
