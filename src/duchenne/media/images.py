"""Reads an image file of any common format as 8-bit RGB, or gives the reason why it cannot; writes JPEG."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterable
from itertools import islice
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from PIL import Image, ImageOps

from duchenne.errors import UserError
from duchenne.files import mistaken, regular, replacing
from duchenne.shortage import stop_if_short

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Formats that are read, by content and not by name. Pillow knows more: for EPS it starts Ghostscript, and ICO and ICNS
hold pictures of other formats."""
SCANS = 100
"""Largest number of scans of a JPEG file (chosen by us; usual progressive files have about ten). Each scan takes the
time of a whole picture, and a file may hold thousands."""
HEAD = 10_000
"""Largest number of bytes or parts that are passed over to find what a file is (chosen by us; usual files have ten)."""
WIDE = ("I", "I;16", "I;16L", "I;16B", "I;16N")
"""Pillow's integer modes of more than eight bits; they are scaled, because conversion would clip them."""
DEPTHS = (8, 10, 12, 14, 16, 24, 32)
"""Bits per pixel that cameras use in files of 16 bits."""
ORIENTATION = 0x0112
"""EXIF tag."""

# about damaged metadata, which are not used, and large pictures, for which max_megapixels is the limit
warnings.filterwarnings("ignore", module=r"PIL\.")


class ImageError(UserError):
    """Raised when an image or video cannot be used; the message is the reason, without the path."""


def read_image(source: Path | io.BytesIO, max_megapixels: float = 100.0, bits: int | None = None) -> np.ndarray:
    """Decode an image to uint8 (H, W, 3) RGB, upright by its EXIF orientation.

    Grey, CMYK, palette and 16-bit images are converted; transparent pixels become white. The size is read from the
    header, so an image over ``max_megapixels`` is refused before decoding.

    Args:
        bits: number of bits used by pixels of more than 8 bits (:func:`depth`). Default: the smallest of :data:`DEPTHS`
            that holds the largest value; otherwise 12-bit pictures in files of 16 bits would be almost black.

    Raises:
        ImageError: The file is empty, not an image, truncated, damaged, too large, has more than :data:`SCANS` scans,
            or has floating-point pixels (whose white could be 1 or 255).
    """
    try:
        image = open_image(source)
        if image.width * image.height > max_megapixels * 1e6:
            raise ImageError(f"is {image.width} x {image.height} px, over the limit of {max_megapixels:g} megapixels")
        if image.mode == "F":
            raise ImageError("has floating-point pixels: save it with 8 or 16 bits per channel")
        if "progressive" in image.info and _scans(source) > SCANS:
            raise ImageError(f"has more than {SCANS} scans, which would take long to decode: save it again")
        if (values := _wide(image, source)) is not None:
            narrow = Image.fromarray(_narrow(values, bits or _bits(values)))
            narrow.getexif()[ORIENTATION] = image.getexif().get(ORIENTATION, 1)
            image = narrow
        return rgb(image)
    except ImageError:
        raise
    except Image.DecompressionBombError:
        raise ImageError(f"is over the limit of {max_megapixels:g} megapixels") from None
    except Image.UnidentifiedImageError:
        raise ImageError(_what_else(source)) from None
    except Exception as error:  # on a damaged file Pillow raises any error of its parsers, struct.error included
        stop_if_short(error, source)
        raise ImageError(f"cannot be read: {words(error)}") from None


def open_image(source: Path | io.BytesIO) -> Image.Image:
    """Open an image of one of :data:`FORMATS`, and read its header alone.

    Raises:
        OSError: The file cannot be read, or is a device, a pipe or a socket.
        ImageError: Its header has too many parts.
        Exception: The file is damaged: any error of Pillow's parsers.
    """
    Image.init()
    with io.BytesIO(source.getbuffer()) if isinstance(source, io.BytesIO) else regular(source).open("rb") as file:
        _require_short_head(file)
    known = [name for name in FORMATS if name in Image.OPEN]
    return Image.open(source if isinstance(source, io.BytesIO) else regular(source), formats=known)


def _require_short_head(file: BinaryIO) -> None:
    """Refuse a file whose header Pillow would read byte by byte: 50 MB of it take a minute.

    Raises:
        ImageError: More than :data:`HEAD` bytes of a JPEG file belong to no part of it, it has as many parts, or the
            sizes of a PPM file are not in as many bytes.
    """
    start = file.read(HEAD)
    if re.match(rb"P[1-6]\s", start) and not re.match(rb"P[1-6](?:(?:\s|#[^\r\n]*[\r\n])+\d+){2,3}\s", start):
        raise ImageError(f"does not state its size in the first {HEAD:,} bytes")
    if not start.startswith(b"\xff\xd8\xff"):
        return
    file.seek(2)
    steps = 0
    while len(head := file.read(4)) == 4 and head[:2] != b"\xff\xda":
        if head[0] == 0xFF and 0xC0 <= head[1] < 0xFF:
            file.seek(max(int.from_bytes(head[2:]) - 2, 0), os.SEEK_CUR)
        else:
            file.seek(-3, os.SEEK_CUR)
        steps += 1
        if steps > HEAD:
            raise ImageError(f"has more than {HEAD:,} parts, or as many bytes between them: save it again")


def _scans(source: Path | io.BytesIO) -> int:
    """Return the number of scans of a JPEG file, counted to one above :data:`SCANS`."""
    data = source.getvalue() if isinstance(source, io.BytesIO) else source.read_bytes()
    return sum(1 for _ in islice(re.finditer(rb"\xff\xda", data), SCANS + 1))


def rgb(image: Image.Image) -> np.ndarray:
    """Convert an image of 8 bits per channel to uint8 (H, W, 3) RGB, as :func:`read_image` does."""
    if image.getexif().get(ORIENTATION, 1) != 1:  # otherwise it would be copied
        image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return np.asarray(image if image.mode == "RGB" else image.convert("RGB"))


def has_several(source: Path | io.BytesIO) -> bool:
    """Whether an image file has several frames or pages; :func:`read_image` reads the first.

    A camera's MPO file has one: its other pictures show the same view.
    """
    with open_image(source) as image:  # counting them would read the whole file
        return image.format != "MPO" and getattr(image, "is_animated", False)


def _what_else(source: Path | io.BytesIO) -> str:
    """Return why a file is not an image, judged by its first bytes."""
    start = source.getvalue()[:64] if isinstance(source, io.BytesIO) else source.open("rb").read(64)
    if not start:
        return "is empty"
    what, colon, remedy = (mistaken(start) or "").partition(":")
    return f"is {what}, not an image{colon}{remedy}" if what else "is not an image"


def words(error: Exception) -> str:
    """Return an error's message, without the number and path of an operating-system error."""
    return getattr(error, "strerror", None) or str(error)


def resized(image: np.ndarray, scale: float) -> np.ndarray:
    """Scale an image (H, W) or (H, W, 3), to at least one pixel per side; shrinking averages pixels."""
    if scale == 1:
        return image
    height, width = (max(1, round(scale * side)) for side in image.shape[:2])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR)


def depth(files: Iterable[Path], max_megapixels: float) -> int | None:
    """Return the bits per channel used by a clip, for :func:`read_image`; None if the first image has 8-bit pixels.

    If each picture were scaled by its own largest value, the clip would flicker.
    """
    most = None
    for file in files:
        try:
            with open_image(file) as image:
                if image.width * image.height > max_megapixels * 1e6:
                    continue
                values = _wide(image, file)
        except Exception as error:  # read_image reports what is wrong with a damaged frame
            stop_if_short(error, file)
            continue
        if values is None:
            break
        most = max(most or 0, _bits(values))
    return most


def _wide(image: Image.Image, source: Path | io.BytesIO) -> np.ndarray | None:
    """Stored pixels of more than 8 bits per channel, (H, W) or (H, W, 3 or 4) RGB(A); None if they have 8 bits.

    Pillow keeps only the upper 8 of 16 bits of colours, which are almost empty in 12-bit pictures.
    """
    if image.mode in WIDE:
        return np.asarray(image)
    forms = (tile.args if isinstance(tile.args, str) else tile.args[0] for tile in image.tile if tile.args)
    if not any(";16" in str(form) for form in forms):
        return None
    image.load()  # reports what is damaged; OpenCV would not
    data = source.getvalue() if isinstance(source, io.BytesIO) else source.read_bytes()
    values = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.ndim != 3:
        return None
    return cv2.cvtColor(values, cv2.COLOR_BGR2RGB if values.shape[2] == 3 else cv2.COLOR_BGRA2RGBA)


def _bits(values: np.ndarray) -> int:
    """The smallest of :data:`DEPTHS` that holds every grey or colour value."""
    most = values[..., :3].max() if values.ndim == 3 else values.max()
    return next((bits for bits in DEPTHS if most < 2**bits), DEPTHS[-1])


def _narrow(values: np.ndarray, bits: int) -> np.ndarray:
    """Convert values of ``bits`` bits to bytes; opacity is scaled by its own bits."""
    if values.ndim == 3 and values.shape[2] == 4:
        colours, opacity = values[..., :3], values[..., 3]
        return np.dstack([_narrow(colours, bits), _narrow(opacity, _bits(opacity))])
    if values.dtype == np.uint16 and values.size > 2**16:  # by a table, which takes a tenth of the memory
        return _narrow(np.arange(2**16), bits)[values]
    return np.clip(values * (255 / (2.0**bits - 1)), 0, 255).round().astype(np.uint8)


def save_jpeg(path: Path, picture: Image.Image, quality: int) -> None:
    """Write a picture as JPEG, completely or not at all.

    Pillow takes a write that a full disk cut short for a whole one, so it does not write to the disk itself.

    Args:
        quality: 1 to 95.

    Raises:
        OSError: The file cannot be written.
    """
    data = io.BytesIO()
    picture.save(data, "JPEG", quality=quality)
    with replacing(path) as part:
        part.write_bytes(data.getbuffer())
