"""Several processes that learn one task: how they are started, find each other, share a batch, and end together."""
