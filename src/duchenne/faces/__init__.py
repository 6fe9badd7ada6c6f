"""From pictures and clips to aligned faces: detection, landmarks, alignment, AU regions, the face store."""
