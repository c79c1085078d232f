"""What is kept: blobs by digest, and in the database bases, tasks, versions, aliases, evaluations, streams."""
