"""Data that are shared out to splits and gathered in batches."""
