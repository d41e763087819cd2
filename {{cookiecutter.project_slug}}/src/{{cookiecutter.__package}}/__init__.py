"""A deep-learning project: `data`, `network`, `module` and `train` are the files to read and to change."""
