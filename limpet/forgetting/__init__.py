"""What is proved: the score matrix, metrics, the monitor, streams, reports and the mirror."""
