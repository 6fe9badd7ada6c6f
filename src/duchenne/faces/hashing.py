"""Perceptual hashes of aligned faces: is one photograph in the data twice?

The hash is ``imagehash.phash`` (DCT of the 64 px grey image, 16 x 16 low frequencies against their median) with 256
bits. Aligned faces all look alike at low resolution, so the common 64 bits do not tell people apart. Measured on
224 px faces aligned by dlib's 68 points: 65 people of the Face Research Lab London Set, 912 photographs of Labeled
Faces in the Wild, 629 rendered faces of 90 people. An altered copy is JPEG quality 60, 80 % of the size, 10 % brighter,
2 % cropped off every edge, or all of them at once, and is detected and aligned anew.

=============================================  ===========  ============
Hamming distance                               64-bit hash  256-bit hash
=============================================  ===========  ============
different people, least of 8,320 (London)                4            58
different people, least of 410,980 (LFW)                 8            64
different people, least of 195,622 (rendered)         -            42
altered copy, median, London / LFW                   2 / 2         8 / 8
altered copy, greatest, London                           6            26
=============================================  ===========  ============

Within 24 bits lie 329 of London's 330 copies and, in the order above, 98, 92, 98, 79 and 86 % of LFW's 2,245: the
others were detected at another place. The number of different people within a distance falls about tenfold with every
10 bits, so that 24 bits, the default of ``Protocol.hash_distance``, raise fewer than one false alarm in 1e9 pairs of
photographs and in 1e6 pairs of rendered faces (extrapolated).

Aligned by the packaged landmark network instead, the nearest different people are 64 bits apart (2,080 pairs of London)
and 74 (19,900 pairs of 200 people of LFW); within 24 bits lie all of London's 325 copies and, in the order above,
99.5, 99, 100, 71.5 and 70 % of LFW's 1,000.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import imagehash
import numpy as np
from PIL import Image
from tqdm import tqdm

from duchenne.errors import UserError

BITS = 256
"""Length of a hash."""

_TILE = 64, 4096  # rows and columns compared at once: 2 MB of 64-bit words stay in the cache


def face_hash(image: np.ndarray) -> str:
    """The hash of an aligned face as 64 hexadecimal digits.

    Args:
        image: uint8, (H, W, 3) RGB or (H, W) grey.
    """
    return str(imagehash.phash(Image.fromarray(image), hash_size=16))


def pack(hashes: Sequence[str]) -> np.ndarray:
    """Hashes of 64 hexadecimal digits as uint64, (N, 4).

    Raises:
        UserError: a hash has another length.
    """
    for text in hashes:
        if len(text) != BITS // 4:
            raise UserError(
                f"a face hash has {BITS // 4} hexadecimal digits, not {len(text)}: run the align stage again"
            )
    return np.frombuffer(bytes.fromhex("".join(hashes)), dtype=np.uint64).reshape(-1, BITS // 64)


def near_pairs(left: np.ndarray, right: np.ndarray | None, distance: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of hashes that differ in at most ``distance`` bits, a few at a time.

    Every pair is compared, so nothing is missed; memory stays at a few MB whatever N and M are.

    Args:
        left: uint64, (N, 4), from :func:`pack`.
        right: uint64, (M, 4); None for the pairs within ``left``, each once.
        distance: bits.

    Yields:
        indices into ``left`` and ``right`` of the same length.
    """
    other = left if right is None else right
    rows, columns = _TILE
    words = np.ascontiguousarray(other.T)
    for top in tqdm(range(0, len(left), rows), desc="near-duplicates", unit="block", delay=3, leave=False):
        block = left[top : top + rows, :, None]
        start = top if right is None else 0
        for begin in range(start, len(other), columns):
            here = words[:, begin : begin + columns]
            # Half the bits rule out nearly every pair; only the rest is compared in full.
            half = np.bitwise_count(block[:, 0] ^ here[0]) + np.bitwise_count(block[:, 1] ^ here[1])
            i, j = np.nonzero(half <= distance)
            i, j = i + top, j + begin
            near = np.bitwise_count(left[i] ^ other[j]).sum(axis=1) <= distance
            if right is None:
                near &= i < j
            if near.any():
                yield i[near], j[near]
