"""Render a deformed head to linear colours and exact correspondences, with one ray per pixel."""

# Kernels are written in Warp's subset of Python, where float(0.0) declares a variable that changes and `in` is missing.
# ruff: noqa: UP018, RUF046

from __future__ import annotations

import functools
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import warp as wp

from duchenne.synth.head import LOWER_TEETH, TONGUE, UPPER_TEETH, Head, load_head
from duchenne.synth.paint import Furrows, Look, paint

wp.config.log_level = wp.LOG_ERROR
wp.config.enable_backward = False


@dataclass(frozen=True)
class Camera:
    """A pinhole camera looking along +y at the head's origin.

    ``focal`` is in pixels, ``distance`` in mm from the origin, ``centre`` the pixel (x, y) where the origin appears.
    """

    size: int
    focal: float
    distance: float
    centre: tuple[float, float]

    def project(self, points: np.ndarray) -> np.ndarray:
        """Project points (..., 3) mm to pixels (..., 2); the centre of the upper left pixel is (0.5, 0.5)."""
        scale = self.focal / (points[..., 1] + self.distance)
        return np.stack([self.centre[0] + scale * points[..., 0], self.centre[1] - scale * points[..., 2]], axis=-1)


@wp.struct
class Light:
    """A key light with its direction, and fill light from sky and ground; colours are linear."""

    towards: wp.vec3
    key: wp.vec3
    sky: wp.vec3
    ground: wp.vec3
    shadow: float  # 0..1: how dark a cast shadow is


@dataclass(frozen=True)
class Frame:
    """One rendered view: ``colour`` (H, W, 3) linear and premultiplied by ``cover`` (H, W) in 0..1.

    ``triangle`` (H, W) is the triangle at the pixel's centre or -1, ``weights`` (H, W, 2) its first two barycentric
    coordinates, ``depth`` (H, W) the length of its ray in mm; both are undefined where there is no triangle.
    """

    colour: np.ndarray
    cover: np.ndarray
    triangle: np.ndarray
    weights: np.ndarray
    depth: np.ndarray


@wp.struct
class Scene:
    mesh: wp.uint64
    triangles: wp.array(dtype=wp.int32)
    part: wp.array(dtype=wp.int32)
    rest: wp.array(dtype=wp.vec3)
    normals: wp.array(dtype=wp.vec3)
    open: wp.array(dtype=wp.float32)
    size: int
    focal: float
    distance: float
    centre: wp.vec2


@wp.func
def towards_pixel(scene: Scene, x: float, y: float) -> wp.vec3:
    return wp.normalize(wp.vec3((x - scene.centre[0]) / scene.focal, 1.0, -(y - scene.centre[1]) / scene.focal))


@wp.kernel
def cast(scene: Scene, light: Light, triangle: wp.array(dtype=wp.int32), at: wp.array(dtype=wp.vec3),
         lit: wp.array(dtype=wp.float32)):  # fmt: skip
    i = wp.tid()
    eye = wp.vec3(0.0, -scene.distance, 0.0)
    ray = towards_pixel(scene, float(i % scene.size) + 0.5, float(i / scene.size) + 0.5)
    hit = wp.mesh_query_ray(scene.mesh, eye, ray, 1.0e5)
    triangle[i] = -1
    lit[i] = 1.0
    if hit.result:
        triangle[i] = hit.face
        at[i] = wp.vec3(hit.u, hit.v, hit.t)
        place = eye + hit.t * ray
        # every other pixel is enough, for shadows are softened over their neighbours
        if (i % scene.size + i / scene.size) % 2 == 0 and wp.dot(hit.normal, light.towards) > 0.0:
            state = wp.rand_init(17, i)
            spread = 0.06 * wp.vec3(wp.randf(state) - 0.5, wp.randf(state) - 0.5, wp.randf(state) - 0.5)
            blocked = wp.mesh_query_ray(
                scene.mesh, place + 1.5 * hit.normal, wp.normalize(light.towards + spread), 400.0
            )
            if blocked.result:
                lit[i] = 0.0


@wp.func
def shade(scene: Scene, light: Light, look: Look, furrows: Furrows, ray: wp.vec3, face: int, u: float, v: float,
          lit: float) -> wp.vec3:  # fmt: skip
    a = scene.triangles[3 * face]
    b = scene.triangles[3 * face + 1]
    c = scene.triangles[3 * face + 2]
    w = 1.0 - u - v
    normal = wp.normalize(u * scene.normals[a] + v * scene.normals[b] + w * scene.normals[c])
    place = u * scene.rest[a] + v * scene.rest[b] + w * scene.rest[c]
    space = u * scene.open[a] + v * scene.open[b] + w * scene.open[c]
    if wp.dot(normal, ray) > 0.0:
        normal = -normal
    s = paint(scene.part[face], place, look, furrows)
    cosine = wp.dot(normal, light.towards)
    # light that enters the skin leaves it a little further on, red most of all
    wrapped = wp.vec3((cosine + 0.30) / 1.30, (cosine + 0.16) / 1.16, (cosine + 0.12) / 1.12)
    direct = wp.vec3(wp.max(wrapped[0], 0.0), wp.max(wrapped[1], 0.0), wp.max(wrapped[2], 0.0))
    visible = 1.0 - light.shadow * (1.0 - lit)
    fill = wp.lerp(light.ground, light.sky, 0.5 + 0.5 * normal[2])
    frontal = 0.75 + 0.25 * wp.max(-wp.dot(normal, ray), 0.0)
    total = visible * wp.cw_mul(direct, light.key) * (0.5 + 0.5 * space) + fill * (space * frontal)
    half = wp.normalize(light.towards - ray)
    glint = s.gloss * wp.pow(wp.max(wp.dot(normal, half), 0.0), s.sharpness) * visible * (0.3 + 0.7 * space)
    return wp.cw_mul(s.albedo, total) * s.relief + light.key * glint


@wp.kernel
def colour(scene: Scene, light: Light, look: Look, furrows: Furrows, triangle: wp.array(dtype=wp.int32),
           at: wp.array(dtype=wp.vec3), lit: wp.array(dtype=wp.float32), out: wp.array(dtype=wp.vec4)):  # fmt: skip
    i = wp.tid()
    n = scene.size
    px = i % n
    py = i / n
    own = triangle[i]
    part = int(-1)
    depth = float(0.0)
    if own >= 0:
        part = scene.part[own]
        depth = at[i][2]
    # shadows are softened over the neighbours; an edge of the picture is anything that breaks off between two pixels
    edge = int(0)
    soft = float(0.0)
    count = float(0.0)
    for dy in range(-2, 3):
        for dx in range(-2, 3):
            x = px + dx
            y = py + dy
            if x >= 0 and y >= 0 and x < n and y < n:
                j = y * n + x
                other = triangle[j]
                kind = int(-1)
                far = float(0.0)
                if other >= 0:
                    kind = scene.part[other]
                    far = at[j][2]
                same = kind == part and wp.abs(far - depth) < 8.0 + 3.0 * float(wp.abs(dx) + wp.abs(dy))
                if same:
                    if (x + y) % 2 == 0:
                        soft += lit[j]
                        count += 1.0
                elif wp.abs(dx) + wp.abs(dy) == 1:
                    edge = 1
    soft = soft / wp.max(count, 1.0)
    total = wp.vec4(0.0, 0.0, 0.0, 0.0)
    if edge == 0:
        if own >= 0:
            ray = towards_pixel(scene, float(px) + 0.5, float(py) + 0.5)
            c = shade(scene, light, look, furrows, ray, own, at[i][0], at[i][1], soft)
            total = wp.vec4(c[0], c[1], c[2], 1.0)
    else:
        for k in range(4):
            fx = float(px) + (float(k % 2) + 0.5) / 2.0
            fy = float(py) + (float(k / 2) + 0.5) / 2.0
            ray = towards_pixel(scene, fx, fy)
            hit = wp.mesh_query_ray(scene.mesh, wp.vec3(0.0, -scene.distance, 0.0), ray, 1.0e5)
            if hit.result:
                c = shade(scene, light, look, furrows, ray, hit.face, hit.u, hit.v, soft)
                total += wp.vec4(c[0], c[1], c[2], 1.0) / 4.0
    out[i] = total


@wp.kernel
def open_share(mesh: wp.uint64, points: wp.array(dtype=wp.vec3), normals: wp.array(dtype=wp.vec3),
               out: wp.array(dtype=wp.float32)):  # fmt: skip
    i = wp.tid()
    state = wp.rand_init(5, i)
    free = float(0.0)
    for _ in range(48):
        way = wp.normalize(normals[i] + wp.sample_unit_sphere_surface(state))
        hit = wp.mesh_query_ray(mesh, points[i] + 0.6 * normals[i], way, 60.0)
        if not hit.result:
            free += 1.0
    out[i] = free / 48.0


LEAST_OPEN = {UPPER_TEETH: 0.6, LOWER_TEETH: 0.5, TONGUE: 0.35}
"""Openness to the light of the surfaces that a closed mouth hides; when they are seen, the mouth is open."""


@contextmanager
def _silent() -> Iterator[None]:
    """Silence native code that reports on standard error that there is no GPU."""
    kept, nowhere = os.dup(2), os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


class Renderer:
    """Renders one mesh and its bounding volumes; use one per process, see :func:`renderer`."""

    def __init__(self, head: Head) -> None:
        with _silent():
            wp.init()
        self.head = head
        self._lock = threading.Lock()  # one mesh, whatever the number of threads
        self.mesh = wp.Mesh(
            points=wp.array(head.template, dtype=wp.vec3), indices=wp.array(head.triangles.ravel(), dtype=wp.int32)
        )
        scene = Scene()
        scene.mesh = self.mesh.id
        scene.triangles = wp.array(head.triangles.ravel(), dtype=wp.int32)
        scene.part = wp.array(head.part, dtype=wp.int32)
        scene.rest = wp.array(head.template, dtype=wp.vec3)
        scene.normals = wp.zeros(len(head.template), dtype=wp.vec3)
        scene.open = wp.zeros(len(head.template), dtype=wp.float32)
        self.scene = scene
        self._place(head.without_curtain(head.template))
        wp.launch(
            open_share, dim=len(head.template), inputs=[self.mesh.id, self.mesh.points, scene.normals, scene.open]
        )
        share = scene.open.numpy()
        for part, least in LEAST_OPEN.items():
            share[np.unique(head.triangles[head.part == part])] = least
        scene.open.assign(share)

    def _place(self, vertices: np.ndarray) -> None:
        self.mesh.points.assign(vertices)
        self.mesh.refit()
        self.scene.normals.assign(self.head.normals(vertices))

    def render(self, vertices: np.ndarray, camera: Camera, light: Light, look: Look, furrows: Furrows) -> Frame:
        """Render ``vertices`` (V, 3), which are already turned to the camera."""
        with self._lock:
            return self._render(vertices, camera, light, look, furrows)

    def _render(self, vertices: np.ndarray, camera: Camera, light: Light, look: Look, furrows: Furrows) -> Frame:
        n = camera.size
        self._place(vertices)
        self.scene.size, self.scene.focal, self.scene.distance = n, camera.focal, camera.distance
        self.scene.centre = wp.vec2(*camera.centre)
        triangle = wp.empty(n * n, dtype=wp.int32)
        at = wp.empty(n * n, dtype=wp.vec3)
        lit = wp.empty(n * n, dtype=wp.float32)
        out = wp.empty(n * n, dtype=wp.vec4)
        wp.launch(cast, dim=n * n, inputs=[self.scene, light, triangle, at, lit])
        wp.launch(colour, dim=n * n, inputs=[self.scene, light, look, furrows, triangle, at, lit, out])
        rgba = out.numpy().reshape(n, n, 4)
        hits = at.numpy().reshape(n, n, 3)
        return Frame(rgba[..., :3], rgba[..., 3], triangle.numpy().reshape(n, n), hits[..., :2], hits[..., 2])


@functools.cache
def renderer() -> Renderer:
    """Return the renderer of this process; kernels are compiled once per machine (half a minute), then cached."""
    return Renderer(load_head())
