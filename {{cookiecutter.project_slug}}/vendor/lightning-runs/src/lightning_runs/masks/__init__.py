"""Building blocks of projects that predict the class of each pixel: reading, data sets, augmentation, report."""
