"""Building blocks for a project that learns from tables."""
