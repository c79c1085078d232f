"""The doctor: one line for each thing that limpet needs."""
