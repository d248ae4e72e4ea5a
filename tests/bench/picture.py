"""What every runtime is measured on."""
import numpy as np


def side_of(network):
    """Height and width of a network's input, by its name."""
    return next((side for side in (256, 320, 640) if f"_{side}" in network), 224)


def picture(side):
    """The picture that Magpie draws for itself, normalized.

    Shape: [1, side, side, 3].
    """
    values = (np.arange(side * side * 3) * 7 % 251).astype(np.float32).reshape(side, side, 3)
    mean = np.array([0.485, 0.456, 0.406], np.float32)
    deviation = np.array([0.229, 0.224, 0.225], np.float32)
    return ((values / 255 - mean) / deviation)[None]
