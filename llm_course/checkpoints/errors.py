"""The one exception of this package."""


class CheckpointError(RuntimeError):
    """Weights or a tokenizer could not be had: missing, damaged, unsupported, or nowhere to keep them.

    The message is for the reader of a notebook: it names the file or the value, and what to do.
    """
