"""Frame numbers of a clip's folder, from the names of its images."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

from duchenne.errors import UserError
from duchenne.media.paths import broken, is_image, is_regular

_DIGITS = re.compile(r"\d+")
_LARGEST = 2**53


class FrameNameError(UserError):
    """Raised when frame numbers cannot be read from the names of a folder's images; the message has no path."""


def numbered(folder: str | Path) -> list[tuple[int, str]]:
    """List the images of a folder with their frame numbers, in order: 2 before 10.

    Raises:
        FrameNameError: An image is a broken link or not a regular file; or see :func:`numbers`.
        OSError: The folder cannot be read.
    """
    names = []
    with os.scandir(folder) as entries:
        for entry in entries:
            if is_image(entry.name) and not entry.is_dir():
                if not is_regular(entry):
                    what = broken(entry.path) or "is a device, a pipe or a socket, which is not opened"
                    raise FrameNameError(f"its frame {entry.name} {what}")
                names.append(entry.name)
    return sorted(zip(numbers(names), names, strict=True))


def numbers(names: Sequence[str]) -> list[int]:
    """Return the frame number in each name: its only integer or, among several, the one that varies.

    ``frame_0046_224.jpg`` among others of its size is frame 46 and ``006_05562.jpg`` is frame 5562. A single name gives
    the last of its integers, or 0 without any.

    Raises:
        FrameNameError: A name has no integer, names have different numbers of integers, several of them vary (as in a
            folder with frames of two faces), or two frames have the same number.
    """
    found = [_DIGITS.findall(name.rpartition(".")[0]) for name in names]
    if not found:
        return []
    if len(found) == 1:
        return [_integer((found[0] or ["0"])[-1], names[0])]
    first = found[0]
    for name, digits in zip(names, found, strict=True):
        if not digits:
            raise FrameNameError(f"the name of its frame {name} has no number")
        if len(digits) != len(first):
            raise FrameNameError(f"its frames have names of different forms ({names[0]}, {name}): {_ADVICE}")
    varying = [i for i in range(len(first)) if any(_differ(digits[i], first[i]) for digits in found)]
    if len(varying) > 1:
        few = min(varying, key=lambda i: len({int(digits[i]) for digits in found}))
        other = next(name for name, digits in zip(names, found, strict=True) if _differ(digits[few], first[few]))
        two = ", ".join(sorted((names[0], other)))
        raise FrameNameError(
            f"{len(varying)} numbers vary in the names of its frames ({two}): are these several faces? {_ADVICE}"
        )
    place = varying[0] if varying else -1
    result = [_integer(digits[place], name) for name, digits in zip(names, found, strict=True)]
    if len(set(result)) < len(result):
        seen: dict[int, str] = {}
        for number, name in zip(result, names, strict=True):
            if number in seen:
                raise FrameNameError(f"two of its frames have the number {number} ({seen[number]}, {name}): {_ADVICE}")
            seen[number] = name
    return result


_ADVICE = "keep one clip of one face per folder, with frames named in the same way and numbered once"


def _differ(digits: str, others: str) -> bool:
    return digits != others and int(digits) != int(others)


def _integer(digits: str, name: str) -> int:
    if (number := int(digits)) > _LARGEST:
        raise FrameNameError(f"the number of its frame {name} is too large")
    return number
