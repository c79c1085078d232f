"""Keeps libraries from writing into the output of a command; `--verbose` lets them."""

from __future__ import annotations

import logging
import os
import warnings

__all__ = ["silence"]

_ENVIRONMENT = {
    "TRANSFORMERS_VERBOSITY": "error",
    "TRANSFORMERS_NO_ADVISORY_WARNINGS": "1",
    # this one also holds transformers' bar of loading weights
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_VERBOSITY": "error",
    "TOKENIZERS_PARALLELISM": "false",
}
_LOGGERS = ("mlflow", "alembic", "datasets", "transformers", "peft", "accelerate", "torch", "huggingface_hub")


def silence() -> None:
    """Set what the libraries read when they are imported; what the user has set stays."""
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    for logger in _LOGGERS:
        logging.getLogger(logger).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")
