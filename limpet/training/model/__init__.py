"""A task's model: base, method and head; its fast paths, caches and merging."""
