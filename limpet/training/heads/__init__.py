"""Heads: the part of an adapter that turns the backbone's hidden states into a task's answer.

A head belongs to its task. The backbone stays shared, so tasks with different label counts live side by side.
On disk a head is `head.json` (how it is built) and `head.safetensors` (its tensors, where it has any), beside the
adapter. Each type of task has a head of its own, one module each.
"""

from limpet.training.heads.base import Head, HeadConfig, pool
from limpet.training.heads.protocols import AnsweringHead, Batch, StoredHead, TrainableHead

__all__ = ["AnsweringHead", "Batch", "Head", "HeadConfig", "StoredHead", "TrainableHead", "pool"]
