"""Clips: expressions among everyday movement (video) and micro-expressions, one folder of frames per sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from duchenne.files import replacing
from duchenne.synth import expression, nuisance
from duchenne.synth.head import CURTAIN, SHOULDERS
from duchenne.synth.motion import micro_course, video_course
from duchenne.synth.photo import Photo, frame_camera, take
from duchenne.synth.plan import SAMPLE, SCENE, Task, subject_of
from duchenne.synth.render import renderer
from duchenne.synth.settings import Synth
from duchenne.synth.truth import describe, record, write_picture


def render_clip(config: Synth, task: Task, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Render one clip below ``folder``; returns its truth (with the ``files`` written) and that of its frames.

    The clip's own row has the action units of the apex and the geometry of the onset frame. In a micro-expression the
    strongest action unit is exactly as strong as the intensity that was drawn.
    """
    rng = np.random.default_rng(task.stream(config.seed, SAMPLE))
    names = renderer().head.unit_names
    subject = subject_of(config.seed, task.subject, config.variety)
    factors = nuisance.draw_factors(config, rng)
    full, intensity, mixture = expression.draw_sample(config, task.emotion, rng)
    micro = config.kind == "micro"
    if micro and full.any():
        full *= intensity / full.max()
    course = (micro_course if micro else video_course)(config, names, rng)
    looking = expression.gaze(names, factors["gaze_right"], factors["gaze_up"])
    camera = frame_camera(subject, factors, config.size)

    path, frames, kept = f"clips/{task.sample}", [], {}
    for number, (level, others, turns) in enumerate(zip(course.level, course.others, course.turns, strict=True), 1):
        strength = level * full
        now = factors | {
            axis: round(factors[axis] + float(step), 4)
            for axis, step in zip(("yaw", "pitch", "roll"), turns, strict=True)
        }
        photo = take(subject, strength, others + looking, now, camera, task.stream(config.seed, SCENE), number)
        file = f"{path}/{number:05d}.{'png' if micro else 'jpg'}"
        write_picture(folder / file, photo.pixels, None if micro else int(factors["jpeg_quality"]))
        frames.append(
            {"sample": task.sample, "frame": number, "path": file, "level": round(float(level), 4)}
            | record(photo, strength, now)
        )
        if number in (course.onset, course.apex):
            kept[number] = photo
    files = [frame["path"] for frame in frames]
    if micro:
        file = f"displacement/{task.sample}.npz"
        write_displacement(folder / file, displacement(kept[course.onset], kept[course.apex]))
        files.append(file)

    onset, apex = frames[course.onset - 1], frames[course.apex - 1]
    geometry = {name: onset[name] for name in onset if name not in ("frame", "level", "path")}
    units = {name: apex[name] for name in apex if name.startswith("au")}
    return geometry | units | describe(task, subject, factors | mixture) | {
        "kind": "frames", "path": path, "files": files, "aus": expression.facs(full, least=0.02),
        "onset": course.onset, "apex": course.apex if micro else None, "offset": course.offset,
        "n_frames": len(frames), "fps": config.rate,
    }, frames  # fmt: skip


def displacement(onset: Photo, apex: Photo) -> np.ndarray:
    """Displacement of every pixel of ``onset`` to ``apex``: (H, W, 2) px right and down, NaN where there is no face.

    Exact by construction: the pixel's point on the mesh is projected from both shapes. A point that is hidden in the
    apex frame still has its displacement.
    """
    head = renderer().head
    triangle = onset.frame.triangle
    face = (triangle >= 0) & ~np.isin(head.part[triangle], (SHOULDERS, CURTAIN))
    u, v = onset.frame.weights[face].astype(float).T
    corners = head.triangles[triangle[face]]
    weights = np.stack([u, v, 1.0 - u - v], axis=1)[..., None]
    places = apex.camera.project((apex.vertices[corners] * weights).sum(axis=1))
    here = np.stack(np.nonzero(face)[::-1], axis=1) + 0.5
    result = np.full((*triangle.shape, 2), np.nan, np.float32)
    result[face] = places - here
    return result


def write_displacement(path: Path, field: np.ndarray) -> None:
    """Write a displacement field to a compressed NPZ file, as array ``displacement`` (H, W, 2) float16."""
    with replacing(path) as part, part.open("wb") as file:
        np.savez_compressed(file, displacement=field.astype(np.float16))
