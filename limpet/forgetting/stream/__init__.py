"""Streams: the file, its run, and what general ability is left beside the tasks."""
