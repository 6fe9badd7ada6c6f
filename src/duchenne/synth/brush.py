"""Building blocks of the face texture: soft steps, lines, folds and noise as functions of position (chosen by us)."""

import warp as wp


@wp.func
def step_soft(low: float, high: float, x: float) -> float:
    t = wp.clamp((x - low) / (high - low), 0.0, 1.0)
    return t * t * (3.0 - 2.0 * t)


@wp.func
def bell(x: float, width: float) -> float:
    return wp.exp(-(x * x) / (width * width))


@wp.func
def segment(x: float, z: float, x0: float, z0: float, x1: float, z1: float) -> wp.vec2:
    """Distance to a segment (positive above it) and the position along it (0..1)."""
    dx = x1 - x0
    dz = z1 - z0
    t = wp.clamp(((x - x0) * dx + (z - z0) * dz) / (dx * dx + dz * dz), 0.0, 1.0)
    ex = x - x0 - t * dx
    ez = z - z0 - t * dz
    d = wp.sqrt(ex * ex + ez * ez)
    return wp.vec2(wp.where(dx * ez - dz * ex < 0.0, -d, d), t)


@wp.func
def fold(distance: float, width: float) -> float:
    """Relief of a crease lit from above: dark inside, slightly bright below."""
    return -bell(distance, width) + 0.45 * bell(distance + 1.6 * width, width)


@wp.func
def fade(t: float) -> float:
    """1 in the middle of a line, 0 at its ends."""
    return step_soft(0.0, 0.25, t) * step_soft(0.0, 0.25, 1.0 - t)


@wp.func
def fractal(state: wp.uint32, p: wp.vec3) -> float:
    return wp.noise(state, p) + 0.5 * wp.noise(state, 2.3 * p)


@wp.func
def line4(x: float, x0: float, y0: float, x1: float, y1: float, x2: float, y2: float, x3: float, y3: float) -> float:
    """Piecewise linear through four points, constant outside."""
    a = y0 + (y1 - y0) * wp.clamp((x - x0) / (x1 - x0), 0.0, 1.0)
    b = (y2 - y1) * wp.clamp((x - x1) / (x2 - x1), 0.0, 1.0)
    c = (y3 - y2) * wp.clamp((x - x2) / (x3 - x2), 0.0, 1.0)
    return a + b + c
