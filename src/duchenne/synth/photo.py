"""Render one picture with its ground truth: from person, expression and nuisance factors to pixels and landmarks."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from duchenne.synth import nuisance
from duchenne.synth.expression import face_units, furrows
from duchenne.synth.identity import Subject
from duchenne.synth.landmarks import framed
from duchenne.synth.nuisance import Factors
from duchenne.synth.render import Camera, Frame, renderer


@dataclass(frozen=True)
class Photo:
    """A picture: ``pixels`` (H, W, 3) uint8 RGB, ``points`` (68, 2) px with ``visible`` (68,), and its geometry."""

    pixels: np.ndarray
    points: np.ndarray
    visible: np.ndarray
    vertices: np.ndarray
    camera: Camera
    frame: Frame


def frame_camera(subject: Subject, factors: Factors, size: int) -> Camera:
    """Return the camera that shows the resting, turned face at its size and position in the frame."""
    marks = framed().on(subject.neutral)
    distance = 1000.0 * factors["distance"]
    focal = size * factors["face_share"] * distance / float(marks[1, 2] - marks[0, 2])
    turned = nuisance.turn(marks, factors["yaw"], factors["pitch"], factors["roll"])
    plain = Camera(size, focal, distance, (0.0, 0.0)).project(turned)
    middle = (plain.min(axis=0) + plain.max(axis=0)) / 2
    # the forehead needs more space than the chin
    goal = size * np.array([0.5 + factors["shift_x"], 0.55 + factors["shift_y"]])
    return Camera(size, focal, distance, tuple(float(c) for c in goal - middle))


def take(
    subject: Subject,
    strength: np.ndarray,
    others: np.ndarray,
    factors: Factors,
    camera: Camera,
    scene_seed: list[int],
    moment: int = 0,
) -> Photo:
    """Photograph ``subject`` with an expression (A, 2) and further face units ``others`` (52,).

    ``scene_seed`` fixes background and occluder, which stay the same through a clip; sensor noise also depends on
    ``moment``, the number of the frame.
    """
    view, head = renderer(), renderer().head
    units = face_units(strength, head.unit_names) + others
    face = head.posed(subject.neutral, units)
    vertices = nuisance.turn(face, factors["yaw"], factors["pitch"], factors["roll"])
    frame = view.render(vertices, camera, nuisance.light(factors), subject.look, furrows(strength))
    marks = subject.anchors.on(vertices)
    points = camera.project(marks)

    scene = np.random.default_rng(scene_seed)
    picture = frame.colour + (1.0 - frame.cover[..., None]) * nuisance.background(
        factors["background"], camera.size, scene
    )
    visible = _visible(marks, points, frame, camera)
    if factors["occluder"] != "none":
        mask, colour = nuisance.occluder(factors["occluder"], points, camera.size, scene)
        picture += mask[..., None] * (colour - picture)
        x, y = _pixels(points, camera.size)
        visible &= mask[y, x] < 0.5
    pixels = nuisance.expose(picture, factors, np.random.default_rng([*scene_seed, moment]))
    return Photo(pixels, points, visible, vertices, camera, frame)


def _pixels(points: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray]:
    x, y = np.clip(np.floor(points).astype(int), 0, size - 1).T
    return x, y


def _visible(marks: np.ndarray, points: np.ndarray, frame: Frame, camera: Camera, slack: float = 7.0) -> np.ndarray:
    """Landmarks (68,) inside the frame with nothing more than ``slack`` mm in front of them."""
    x, y = _pixels(points, camera.size)
    away = np.linalg.norm(marks - np.array([0.0, -camera.distance, 0.0]), axis=1)
    seen = np.where(frame.triangle[y, x] >= 0, frame.depth[y, x], np.inf)
    inside = (points >= 0).all(axis=1) & (points < camera.size).all(axis=1)
    return inside & (seen > away - slack)
