"""One image file, whatever it is, as 8-bit RGB; or the reason why not."""

from __future__ import annotations

import io
import warnings
from pathlib import Path

import cv2
import numpy as np
from PIL import Image, ImageOps

from duchenne.errors import UserError
from duchenne.files import mistaken

WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's modes of whole numbers beyond eight bits; they are scaled, for converting would clip them."""


class ImageError(UserError):
    """An image or video cannot be used; the message is the reason, without the path."""


def read_image(source: Path | io.BytesIO, max_megapixels: float = 100.0) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB, upright as its EXIF orientation says.

    Grey, CMYK, palette and 16-bit images are converted; transparency is laid on white. The size is read from the
    header, so an image over ``max_megapixels`` costs nothing.

    Raises:
        ImageError: empty, not an image, truncated, damaged, too large, or of fractions (whose white could be 1 or 255).
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # max_megapixels is our own limit
            image = Image.open(source)
        if image.width * image.height > max_megapixels * 1e6:
            raise ImageError(f"is {image.width} x {image.height} px, over the limit of {max_megapixels:g} megapixels")
        if image.mode == "F":
            raise ImageError("has fractions for pixels: save it with 8 or 16 bits a channel")
        image = ImageOps.exif_transpose(image)
        if image.mode in WIDE:
            return _narrow(np.asarray(image, dtype=np.float64))
        if image.has_transparency_data:
            image = image.convert("RGBA")
            image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
        return np.asarray(image.convert("RGB"))
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"is over the limit of {max_megapixels:g} megapixels") from None
    except Image.UnidentifiedImageError:
        raise ImageError(_what_else(source)) from None
    except Exception as error:  # of a damaged file Pillow raises whatever its parsers trip over, struct.error included
        raise ImageError(f"cannot be read: {words(error)}") from None


def _what_else(source: Path | io.BytesIO) -> str:
    """Why a file is not an image, as far as its first bytes tell."""
    start = source.getvalue()[:64] if isinstance(source, io.BytesIO) else source.open("rb").read(64)
    what = mistaken(start)
    return "is empty" if not start else f"is {what}, not an image" if what else "is not an image"


def words(error: Exception) -> str:
    """What an error says, without the number and the path that one of the operating system carries."""
    return getattr(error, "strerror", None) or str(error)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """The image (H, W) or (H, W, 3) times ``scale``, at least one pixel a side; pixels are averaged when it shrinks."""
    if scale == 1:
        return image
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def _narrow(values: np.ndarray) -> np.ndarray:
    """Grey of 16 bits as RGB; what has no value above 255 is taken for 8 bits in a wider file."""
    full = 65535.0 if values.max() > 255 else 255.0
    grey = np.clip(values * (255.0 / full), 0, 255).round().astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)
