"""Text on pictures, in a font that has its letters."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path

from PIL import ImageFont

Font = ImageFont.FreeTypeFont | ImageFont.ImageFont

FONTS = (
    "DejaVuSans.ttf",  # Latin, Greek, Cyrillic, Arabic, Hebrew, Armenian, Georgian; comes with Matplotlib
    *("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc"),  # Chinese, Japanese, Korean on Linux
    *("msyh.ttc", "YuGothM.ttc", "malgun.ttf"),  # the same on Windows
    *("PingFang.ttc", "Hiragino Sans GB.ttc", "AppleSDGothicNeo.ttc", "Arial Unicode.ttf"),  # and on macOS
    *("NotoSansDevanagari-Regular.ttf", "NotoSansThai-Regular.ttf", "Nirmala.ttf", "leelawui.ttf"),
)
"""Files of fonts, in the order in which they are tried; Pillow's own, for English, is the last."""


def font_of(text: str, size: int) -> Font:
    """Return the first font at hand that has every letter of ``text``, ``size`` px high, or else the first one."""
    return _complete(text, size) or next(font for name in (*FONTS, None) if (font := _font(name, size)))


def width_of(text: str, size: int) -> int:
    """Return the width of a line of text in its font, px."""
    return round(font_of(text, size).getlength(text))


def printable(name: str, number: int) -> str:
    """Return the name of a class, or ``class 3`` for its ``number`` (from 0) 2 if no font at hand has its letters."""
    return name if _complete(name, 12) else f"class {number + 1}"


@cache
def _complete(text: str, size: int) -> Font | None:
    return next((font for name in (*FONTS, None) if (font := _font(name, size)) and _has(font, text)), None)


@cache
def _font(name: str | None, size: int) -> Font | None:
    """Load a font by file name, from Matplotlib or the system; None: Pillow's own."""
    if name is None:
        return ImageFont.load_default(size)
    spec = importlib.util.find_spec("matplotlib")
    own = Path(spec.origin).parent / "mpl-data/fonts/ttf" / name if spec and spec.origin else Path(name)
    try:
        return ImageFont.truetype(str(own) if own.is_file() else name, size)
    except OSError:
        return None


def _has(font: Font, text: str) -> bool:
    missing = bytes(font.getmask("\uffff"))  # drawn in place of a letter that the font lacks
    return all(letter.isspace() or bytes(font.getmask(letter)) != missing for letter in text)
