"""Small images of one size, by which images are compared."""

from __future__ import annotations

import numpy as np

from trainer.data.decode import Undecodable, decoding_threads, resize
from trainer.data.images import ImageFiles, Images
from trainer.hardware import usable_cores

SIDE = 16  # pixels


def thumbnails(images: Images, indices: np.ndarray) -> np.ndarray:
    """Return the whole of each image, resized to float32 (n, SIDE, SIDE, C); an unreadable one is black.

    Args:
        images: The images of a split.
        indices: Which of them (n,).
    """

    def thumbnail(index: int) -> np.ndarray | None:
        try:
            image = images.read(index, 2 * SIDE) if isinstance(images, ImageFiles) else images.read(index)
        except Undecodable:
            return None
        return resize(image, (SIDE, SIDE))

    with decoding_threads(min(usable_cores(), 32)) as pool:
        made = list(pool.map(thumbnail, indices.tolist()))
    channels = next((image.shape[2] for image in made if image is not None), 1)
    black = np.zeros((SIDE, SIDE, channels), np.uint8)
    return np.array([black if image is None else image for image in made], np.float32).reshape(-1, SIDE, SIDE, channels)
