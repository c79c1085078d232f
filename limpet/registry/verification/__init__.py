"""What is wrong with a home: one entry point, and a module for each kind of check."""
