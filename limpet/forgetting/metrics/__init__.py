"""The score matrix, the metrics of forgetting, and how far a number may be chance: pure functions."""
