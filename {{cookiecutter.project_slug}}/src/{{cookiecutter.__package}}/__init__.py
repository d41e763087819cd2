"""A deep-learning project: `train` names its two classes. They, and what they import, are to be read and changed."""
