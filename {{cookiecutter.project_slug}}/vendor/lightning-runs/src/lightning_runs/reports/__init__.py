"""Reports, charts, predictions and tables."""
