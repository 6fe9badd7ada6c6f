"""Perceptual hashes of aligned faces, to find photographs that are in the data twice.

The hash has 256 bits (DCT of the 64 px grey image, 16 x 16 low frequencies): a bit of an even horizontal frequency is
set above the median of those, a bit of an odd one above 0. Mirroring a picture keeps the even frequencies and changes
the sign of the odd ones, so the hash of the mirrored picture follows from that of the picture: exactly in 65 of 65
portraits. ``imagehash.phash`` compares all with one median, which is not 0: mirrored that way it is off by 8 bits
(median; at most 28). Aligned faces look similar at low resolution, so the common 64 bits do not tell people apart.

The table was measured with ``imagehash.phash`` on 224 px faces aligned by dlib's 68 points: 65 people of the Face
Research Lab London Set, 912 photographs of Labeled Faces in the Wild, 629 rendered faces of 90 people. An altered copy
is JPEG quality 60, 80 % of the size, 10 % brighter, 2 % cropped off every edge, or all of them at once, and is detected
and aligned again.

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

With this hash and the packaged network, on 65 neutral portraits of London and on one photograph each of 448 people of
LFW; a mirrored copy is mirrored, saved without loss or with JPEG quality 60, and detected and aligned again:

===================================================  ==========  =======  =======
Hamming distance                                     ``phash``   London   LFW
===================================================  ==========  =======  =======
different people, least of 2,080 / 100,128              64 / 72       65       71
different people, one of the two mirrored                     -       66       67
different people within 80 bits, LFW: straight                34       -       26
different people within 80 bits, LFW: mirrored                 -       -       24
copy of JPEG quality 60, median (greatest)                     -   3 (11)   2 (25)
mirrored copy, median (greatest)                               -  11 (28)  11 (25)
mirrored copy of JPEG quality 60, median (greatest)            -  12 (29)  10 (27)
===================================================  ==========  =======  =======

Within 24 bits lie 95 and 98 % of London's mirrored copies and 99.8 and 99.6 % of LFW's. Looking for mirrored copies
compares every pair twice and raises about twice the false alarms; at 24 bits both are far below one in 1e9 pairs. Of
72,576 pairs of rendered faces of different people (``synth_demo``) the nearest are 45 bits apart, and 46 with one
mirrored.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image
from scipy.fft import dctn
from tqdm import tqdm

from duchenne.errors import UserError

SIDE = 16
"""Number of vertical and of horizontal frequencies of a hash."""

BITS = SIDE * SIDE
"""Length of a hash."""

_REDUCED = 64  # px, side of the grey picture that is transformed
_TILE = 64, 4096  # rows and columns compared at once: 2 MB of 64-bit words stay in the cache


class Pairs(NamedTuple):
    """Pairs of near-duplicates: positions in the two lists of hashes, differing bits, whether one is mirrored."""

    left: np.ndarray
    right: np.ndarray
    bits: np.ndarray
    mirrored: np.ndarray


def face_hash(image: np.ndarray) -> str:
    """Return the hash of an aligned face as 64 hexadecimal digits, row after row of vertical frequencies.

    Args:
        image: uint8, (H, W, 3) RGB or (H, W) grey.
    """
    grey = Image.fromarray(image).convert("L").resize((_REDUCED, _REDUCED), Image.Resampling.LANCZOS)
    low = dctn(np.asarray(grey, dtype=np.float64))[:SIDE, :SIDE]
    low[:, ::2] -= np.median(low[:, ::2])
    return np.packbits(low > 0).tobytes().hex()


def pack(hashes: Sequence[str]) -> np.ndarray:
    """Pack hashes of 64 hexadecimal digits as uint64, (N, 4).

    The first two words hold the even horizontal frequencies, the last two the odd ones: mirroring a picture keeps the
    first two and inverts the last two.

    Raises:
        UserError: A hash has another length.
    """
    for text in hashes:
        if len(text) != BITS // 4:
            raise UserError(
                f"a face hash has {BITS // 4} hexadecimal digits, not {len(text)}: run the align stage again"
            )
    bits = np.unpackbits(np.frombuffer(bytes.fromhex("".join(hashes)), np.uint8)).reshape(-1, SIDE, SIDE)
    halves = [bits[:, :, start::2].reshape(len(hashes), BITS // 2) for start in (0, 1)]
    return np.packbits(np.hstack(halves), axis=1).view(np.uint64)


def near_pairs(left: np.ndarray, right: np.ndarray | None, distance: int) -> Iterator[Pairs]:
    """Yield all pairs of pictures whose hashes differ in at most ``distance`` bits, unmirrored or with one mirrored.

    Every pair is compared, so nothing is missed; memory stays at a few MB whatever N and M are.

    Args:
        left: uint64, (N, 4), from :func:`pack`.
        right: uint64, (M, 4); None for the pairs within ``left``, each once.
        distance: maximum number of differing bits.

    Yields:
        Pairs in batches.
    """
    other = left if right is None else right
    rows, columns = _TILE
    words = np.ascontiguousarray(other.T)
    for top in tqdm(range(0, len(left), rows), desc="near-duplicates", unit="block", delay=3, leave=False):
        block = left[top : top + rows, :, None]
        start = top if right is None else 0
        for begin in range(start, len(other), columns):
            here = words[:, begin : begin + columns]
            # The even frequencies, which mirroring does not change, already rule out nearly every pair.
            even = np.bitwise_count(block[:, 0] ^ here[0]) + np.bitwise_count(block[:, 1] ^ here[1])
            i, j = np.nonzero(even <= distance)
            even, i, j = even[i, j].astype(int), i + top, j + begin
            odd = np.bitwise_count(left[i, 2:] ^ other[j, 2:]).sum(axis=1, dtype=int)
            mirrored = odd > BITS // 4
            bits = even + np.where(mirrored, BITS // 2 - odd, odd)
            near = bits <= distance
            if right is None:
                near &= i < j
            if near.any():
                yield Pairs(i[near], j[near], bits[near], mirrored[near])
