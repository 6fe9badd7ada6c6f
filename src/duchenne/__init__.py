"""Duchenne: one pipeline for facial-expression recognition in still images, video and micro-expressions."""
