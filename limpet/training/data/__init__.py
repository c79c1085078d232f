"""From a data SPEC to three splits of a task."""
