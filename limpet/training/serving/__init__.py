"""Serving: one base in memory, the adapters of many tasks in slots beside it, and batches that mix them."""

from __future__ import annotations

from limpet.training.serving.mixed_batches import MEMORY, Served, Server

__all__ = ["MEMORY", "Served", "Server"]
