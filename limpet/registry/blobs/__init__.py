"""Content-addressed files: one protocol, a local and a remote store."""
