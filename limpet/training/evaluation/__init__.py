"""What is measured of an adapter."""
