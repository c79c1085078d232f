"""What is recorded, one module for each noun that is a row: base, task, evaluation, stream, policy, ..."""
