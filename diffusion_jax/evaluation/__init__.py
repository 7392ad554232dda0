"""Scores of samples: features by Inception, and the metrics that papers print."""
