"""Comparisons of methods on one task."""
