"""Still images: one picture per sample."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from duchenne.synth import expression, nuisance
from duchenne.synth.photo import frame_camera, take
from duchenne.synth.plan import SAMPLE, SCENE, Task, subject_of
from duchenne.synth.render import renderer
from duchenne.synth.settings import Synth
from duchenne.synth.truth import describe, record, write_picture


def render_still(config: Synth, task: Task, folder: Path) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Render one picture below ``folder``; returns its truth (with the ``files`` written) and no frames."""
    rng = np.random.default_rng(task.stream(config.seed, SAMPLE))
    names = renderer().head.unit_names
    subject = subject_of(config.seed, task.subject, config.variety)
    factors = nuisance.draw_factors(config, rng)
    strength, _, mixture = expression.draw_sample(config, task.emotion, rng)
    if config.stray_units:
        strength = expression.stray(strength, config.stray_units, rng)
    others = expression.wander(names, rng) + expression.gaze(names, factors["gaze_right"], factors["gaze_up"])
    camera = frame_camera(subject, factors, config.size)
    photo = take(subject, strength, others, factors, camera, task.stream(config.seed, SCENE))
    path = f"images/s{task.subject:04d}/{task.sample}.jpg"
    write_picture(folder / path, photo.pixels, int(factors["jpeg_quality"]))
    truth = describe(task, subject, factors | mixture) | record(photo, strength, factors)
    return truth | {
        "kind": "image", "path": path, "files": [path], "aus": expression.facs(strength),
        "onset": None, "apex": None, "offset": None, "n_frames": None, "fps": None,
    }, []  # fmt: skip
