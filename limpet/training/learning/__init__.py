"""From settings to the files of an adapter, staged for registration."""
