"""Settings of face detection and alignment: the block ``faces`` of a dataset in ``params.yaml``."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from duchenne.blocks import Place, Strict


class Faces(Strict):
    """Detection, landmarks and alignment of a dataset's faces."""

    mode: Literal["detect", "boxes", "aligned"] = Field(
        "detect", description="detect faces; use the boxes of the index; or frames are already aligned faces"
    )
    detector: Literal["dlib", "yunet", "none"] = Field(
        "dlib", description="none: no detection, for frames that are already aligned or have boxes"
    )
    detector_model: Place | None = Field(None, description="ONNX file of YuNet")
    upsample: int = Field(1, ge=0, le=3, description="how often dlib's last pass doubles the image")
    landmarks: Literal["mobilefacenet", "dlib68"] = Field(
        "mobilefacenet", description="model of the 68 points: the packaged one; or dlib's, for non-commercial use only"
    )
    landmark_model: Place | None = Field(None, description="file of the landmark model, instead of the packaged one")
    size: int = Field(224, ge=32, le=1024, description="height and width of an aligned face, px")
    eye_distance: float = Field(
        0.34,
        gt=0.1,
        lt=0.8,
        description="distance of the eye centres in the aligned face, as a share of its width",
    )
    encoding: Literal["jpeg", "png"] = Field("jpeg", description="of stored faces; png is lossless")
    quality: int = Field(95, ge=50, le=100, description="of JPEG")
    smoothing: float = Field(
        0.05,
        ge=0,
        le=60,
        description="standard deviation, in seconds, of the Gaussian that smooths a video's key points",
    )
    misses: Literal["drop", "whole"] = Field(
        "drop", description="for a sample without a face: leave it out and count it, or use the whole frame"
    )
    max_megapixels: float = Field(
        100.0, gt=0, le=178, description="larger images are reported, not decoded; Pillow itself refuses over 178"
    )

    @model_validator(mode="after")
    def _detector_can_detect(self) -> Self:
        if self.mode == "detect" and self.detector == "none":
            raise ValueError("mode detect needs a detector: set it to dlib or yunet, or set mode to boxes or aligned")
        if self.mode == "detect" and self.detector == "yunet" and self.detector_model is None:
            raise ValueError("detector yunet needs detector_model, the path of its ONNX file (OpenCV Zoo)")
        return self
