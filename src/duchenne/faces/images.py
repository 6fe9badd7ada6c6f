"""One image file, whatever it is, as 8-bit RGB; or the reason why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from duchenne.errors import UserError

WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N", "F")
"""Pillow's modes of more than eight bits a channel; they are scaled, for converting would clip them."""


class ImageError(UserError):
    """An image or video cannot be used; the message is the reason, without the path."""


def read_image(source: Path | io.BytesIO, max_megapixels: float = 100.0) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB, upright as its EXIF orientation says.

    Grey, CMYK, palette and 16-bit images are converted; transparency is laid on white. The size is read from the
    header, so an image over ``max_megapixels`` costs nothing.

    Raises:
        ImageError: empty, no image, truncated, damaged, or too large.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_megapixels is our own limit
            image = Image.open(source)
        if image.width * image.height > max_megapixels * 1e6:
            raise ImageError(f"is {image.width} x {image.height} px, over the limit of {max_megapixels:g} megapixels")
        image = ImageOps.exif_transpose(image)
        if image.mode in WIDE:
            return _narrow(np.asarray(image, dtype=np.float64))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
    except Image.DecompressionBombError:
        raise ImageError(f"is over the limit of {max_megapixels:g} megapixels") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # what Pillow's decoders raise on damage
        if isinstance(error, ImageError):
            raise
        reason = "is no image" if isinstance(error, Image.UnidentifiedImageError) else f"cannot be read: {error}"
        if isinstance(source, Path) and source.is_file() and source.stat().st_size == 0:
            reason = "is empty"
        raise ImageError(reason) from None


def _narrow(values: np.ndarray) -> np.ndarray:
    """Grey of 16 bits, or of as many as its largest value needs, as RGB."""
    full = 65535.0 if values.max() > 255 else 255.0
    grey = np.clip(values * (255.0 / full), 0, 255).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
