"""What a version does to general ability while it is active, beside the base alone."""
