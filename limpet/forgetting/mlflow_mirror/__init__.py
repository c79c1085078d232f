"""The MLflow mirror, one way, and its dashboard."""
