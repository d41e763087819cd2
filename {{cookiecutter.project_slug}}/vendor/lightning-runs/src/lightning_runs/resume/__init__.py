"""Exact resume: a killed run ends as if nothing had happened."""
