"""What is kept: bytes by their digest; bases, tasks, versions, aliases, evaluations and streams in tables."""
