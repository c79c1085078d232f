"""The gate: its rules, and how people write them."""
