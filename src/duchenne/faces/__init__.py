"""Aligned faces from pictures and clips: detection, landmarks, alignment, AU regions, the face store."""
