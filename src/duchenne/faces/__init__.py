"""From pictures and clips to aligned faces: detection, landmarks, alignment, AU regions, the face store."""

from duchenne.faces.annotate import landmark_dataset
from duchenne.faces.build import align_dataset
from duchenne.faces.store import FaceStore

__all__ = ["FaceStore", "align_dataset", "landmark_dataset"]
