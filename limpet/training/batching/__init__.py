"""Token ids, batches, and the one loop that every inference goes through; no heads, no methods."""
