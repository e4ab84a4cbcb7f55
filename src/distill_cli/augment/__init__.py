"""Data augmentation as pure functions of a key, differentiable in the images.

Families by source: `dsa` (differentiable siamese augmentation), `dc` (the crops, scalings and
rotations of gradient matching's evaluation), `frepo`, `kip`. All act on preprocessed images
(n, height, width, channel) and return the same shape and dtype. `resample` holds the geometry.
"""
