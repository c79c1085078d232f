"""Byte forms and their strict readers: JSON, safetensors, peft's configuration, the documents of a task."""
