"""Streams: the file, its run, and what is probed beside the tasks."""
