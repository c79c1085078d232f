"""Versions leave a home and come into another: the bundle's format, its validation, export and import."""
