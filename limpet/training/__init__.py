"""How a task is learned: data, the base, methods, heads and the loop."""
