"""A run on disk: its folder, its lock and its checkpoints."""
