"""What users give as data, read: a SPEC, files in their formats and encodings, sample corpora."""
