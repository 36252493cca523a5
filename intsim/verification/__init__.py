"""Evidence: an independent reference, float executors, first divergence and blame."""
