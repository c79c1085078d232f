"""Adapters that were trained elsewhere."""
