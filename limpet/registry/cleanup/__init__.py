"""What may go: what the retention lets go, and the collection of what nothing needs."""
