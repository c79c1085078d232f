"""The monitor: every task evaluated again, samples of it, and where two evaluations differ."""
