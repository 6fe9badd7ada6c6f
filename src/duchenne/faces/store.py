"""Face store: the aligned frames of a dataset, memory-mapped, with failures and settings."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa

from duchenne.errors import UserError
from duchenne.files import read_json

SCHEMA = pa.schema(
    [
        ("sample", pa.string()),
        ("frame_numbers", pa.list_(pa.int64())),
        ("frames", pa.list_(pa.binary())),  # JPEG or PNG files
        ("transforms", pa.list_(pa.list_(pa.float64()))),  # row-major 2 x 3, original px -> aligned px
        ("points", pa.list_(pa.list_(pa.float32()))),  # 136: x and y of 68 points, original px; null where not searched
        ("boxes", pa.list_(pa.list_(pa.float64()))),  # x0, y0, x1, y1, original px
        ("confidence", pa.list_(pa.float64())),  # the detector's score; NaN where there was no detection
        ("doubtful", pa.list_(pa.bool_())),  # whether the score is below the detector's own threshold
        ("faces", pa.list_(pa.int64())),  # number detected; null where only the last face's neighbourhood was searched
        ("phash", pa.string()),  # hashing.face_hash of the first frame
    ]
)


class FaceStore:
    """Gives random access to the faces that ``align_dataset`` wrote to a folder.

    The shards are memory-mapped at the first access; a copy sent to another process opens them again.

    Raises:
        UserError: The folder holds no face store.
    """

    def __init__(self, path: Path) -> None:
        self.path = Path(path)
        try:
            self.meta: dict[str, Any] = read_json(self.path / "store.json")
        except FileNotFoundError:
            raise UserError(f"{path} holds no aligned faces: run the align stage (dvc repro)") from None

    def __getstate__(self) -> dict[str, Any]:
        return {"path": self.path, "meta": self.meta}

    @cached_property
    def _table(self) -> Any:
        import datasets

        return datasets.Dataset.load_from_disk(str(self.path))

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {sample: i for i, sample in enumerate(self._column("sample"))}

    def _column(self, name: str) -> list[Any]:
        try:
            return self._table.data.column(name).to_pylist()
        except KeyError:
            raise UserError(
                f"{self.path} has no {name}: an older version wrote it. Run the align stage again"
            ) from None

    @property
    def samples(self) -> list[str]:
        return list(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __contains__(self, sample: object) -> bool:
        return sample in self._positions

    def row(self, sample: str) -> dict[str, Any]:
        """Return all columns of one sample."""
        return self._table[self._positions[sample]]

    def frame_numbers(self, sample: str) -> list[int]:
        """Return the numbers of the stored frames, as in the index, in stored order."""
        return self._table.data.column("frame_numbers")[self._positions[sample]].as_py()

    def frame(self, sample: str, i: int = 0) -> np.ndarray:
        """Return the ``i``-th stored frame, uint8 (S, S, 3) RGB."""
        cell = self._table.data.column("frames")[self._positions[sample]]
        return decode(cell[i].as_py())

    def frames(self, sample: str) -> np.ndarray:
        """Return all frames of a sample, uint8 (T, S, S, 3) RGB."""
        return np.stack([decode(data) for data in self.row(sample)["frames"]])

    def detection(self) -> pd.DataFrame:
        """Return the detector's results per sample: ``score`` (median over frames), ``doubtful`` and ``faces``.

        A sample is doubtful if most of its frames with a face are; ``faces`` is the maximum in one frame. NaN without
        detection.
        """
        rows = []
        for sample in zip(*map(self._column, ("sample", "confidence", "doubtful", "faces")), strict=True):
            name, scores, doubtful, faces = sample
            shown = ~np.isnan(scores)
            rows.append(
                {
                    "sample": name,
                    "score": np.median(np.array(scores)[shown]) if shown.any() else np.nan,
                    "doubtful": bool(shown.any() and np.mean(np.array(doubtful)[shown]) > 0.5),
                    "faces": max((count for count in faces if count is not None), default=np.nan),
                }
            )
        return pd.DataFrame(rows, columns=["sample", "score", "doubtful", "faces"])

    def findings(self) -> dict[str, list[str]]:
        """Return stored samples to inspect: finding -> sample names; findings without a sample are left out."""
        table = self.detection()
        partial = set(self.failures.dropna(subset="frame")["sample"])
        lengths = pd.Series(self._column("frame_numbers"), index=table["sample"], dtype=object).map(len)
        found = {
            "a doubtful face: the detector's score is below its own threshold": table["doubtful"],
            "several faces, of which the largest central one is used": (table["faces"] > 1) & ~table["doubtful"],
            "frames that cannot be used (failures.parquet says why)": table["sample"].isin(partial),
        }
        if lengths.max() > 1:  # a set of clips
            found["a clip of one frame: no motion to see"] = (lengths == 1).to_numpy()
        return {what: table["sample"][where].tolist() for what, where in found.items() if where.any()}

    def hashes(self) -> dict[str, str]:
        """Return sample -> perceptual hash of its first frame."""
        return dict(zip(self._positions, self._column("phash"), strict=True))

    @property
    def failures(self) -> pd.DataFrame:
        """Return the failures: sample, frame (empty when the whole sample failed) and reason."""
        return pd.read_parquet(self.path / "failures.parquet")


def decode(data: bytes) -> np.ndarray:
    """Decode a stored frame's bytes to uint8 (S, S, 3) RGB."""
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR_RGB)


def encode(image: np.ndarray, encoding: str, quality: int) -> bytes:
    """Encode a frame as JPEG of ``quality`` or as lossless PNG."""
    suffix, flags = {"jpeg": (".jpg", [cv2.IMWRITE_JPEG_QUALITY, quality]), "png": (".png", [])}[encoding]
    return cv2.imencode(suffix, cv2.cvtColor(image, cv2.COLOR_RGB2BGR), flags)[1].tobytes()
