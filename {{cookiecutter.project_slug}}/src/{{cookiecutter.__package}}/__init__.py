"""A deep-learning project: ``train.py`` names its two classes, which you read and change.

`fit` and `load` are for Python and notebooks; `fit` takes the options of the command line.
"""

from lightning_runs import Project

project = Project(__name__)
fit = project.fit
load = project.load
