"""Building blocks of projects that classify images: reading, data sets, augmentation, report, pretrained networks."""
