"""The whole of ``params.yaml`` as typed, validated objects; nothing else reads that file.

It holds what runs now and nothing else. Every block is complete where it stands, so a DVC stage that depends on
``variants.<name>`` is stale exactly when that variant changed. YAML anchors are refused: ``dvc exp run -S`` edits the
file as text and loses or spreads values through them. An unknown key, a wrong type or a name that does not exist stops
with one :class:`CatalogError` that lists every problem with its place in the file and the nearest valid name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Annotated, Any, Literal, Self, Union, get_args, get_origin

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    field_validator,
    model_validator,
)
from ruamel.yaml import YAML, YAMLError
from ruamel.yaml.tokens import AliasToken, AnchorToken

from duchenne.errors import UserError, nearest
from duchenne.files import expanded
from duchenne.metrics import METRICS
from duchenne.papers.library import SECTIONS, library, required_by
from duchenne.weights import PACKAGED

EMOTIONS = (
    "anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise", "contempt",
    "anxiety", "helplessness", "disappointment", "repression", "others", "negative", "positive",
)  # fmt: skip
"""Every emotion name that a dataset of the field uses; a label outside this list is a spelling mistake."""

Share = Annotated[float, Field(ge=0, lt=1)]
Probability = Annotated[float, Field(ge=0, le=1)]


def _name(value: Any) -> Any:
    """Refuse what DVC cannot address: it reads a dot as the step to a block within."""
    if not isinstance(value, str):
        raise ValueError(f"YAML reads this name as {type(value).__name__} {value!r}: put it in quotes")
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]*", value):
        fitting = re.sub(r"[^A-Za-z0-9_-]+", "_", value).strip("_-")
        hint = f": call it {fitting!r}" if fitting else ""
        raise ValueError(f"{value!r} is not a name that DVC takes (letters, digits, _ and -, the first no sign){hint}")
    return value


Name = Annotated[str, BeforeValidator(_name)]
"""Name of a dataset, variant or network, which DVC uses in keys, stages and paths."""


def _monitor(value: str) -> str:
    known = [*METRICS, "loss"]
    if value not in known:
        raise ValueError(f"{value!r} is not a metric{nearest(value, known)}: give one of {', '.join(known)}")
    return value


Monitor = Annotated[str, AfterValidator(_monitor)]
"""Name of a metric of :data:`duchenne.metrics.METRICS`, or ``loss``."""
Place = Annotated[Path, AfterValidator(expanded)]
"""A file or folder; ``~`` stands for the user's home."""


def _word(value: Any) -> Any:
    """A label as text: ``0`` in YAML is a number, and means the label that a file writes as 0."""
    if isinstance(value, bool):
        raise ValueError(f"YAML reads this label as {str(value).lower()}: put it in quotes")
    return str(value) if isinstance(value, int) else value


Word = Annotated[str, BeforeValidator(_word)]
"""A cell of an annotation file as ``params.yaml`` names it; numbers need no quotes."""


class CatalogError(UserError):
    """``params.yaml`` cannot be used; the message lists every problem, one a line."""


def is_emotion(name: str) -> bool:
    """Whether a class is one of :data:`EMOTIONS`, or joins several by ``_`` (a compound class)."""
    return set(name.split("_")) <= set(EMOTIONS)


class Strict(BaseModel):
    """A block of ``params.yaml``: unknown keys are errors, values never change after loading."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


def _ordered(value: tuple[float, float]) -> tuple[float, float]:
    if value[0] > value[1]:
        raise ValueError(f"the range {list(value)} is empty: give [lowest, highest]")
    return value


Range = Annotated[tuple[float, float], AfterValidator(_ordered)]
"""Lowest and highest value."""


class Synth(Strict):
    """A rendered set (ours): how many people, which expressions, and the range of every nuisance."""

    kind: Literal["image", "video", "micro"]
    classes: tuple[str, ...] = ("anger", "disgust", "fear", "happiness", "neutral", "sadness", "surprise")
    subjects: int = Field(ge=2)
    per_class: int = Field(1, ge=1, description="samples of each class and subject")
    seed: int = Field(0, ge=0)
    size: int = Field(224, ge=64, le=1024, description="height and width of a frame, px")
    test_share: Share = Field(0.2, description="share of the subjects in the official test part (image sets)")
    folds: int = Field(5, ge=2, description="subject-disjoint official folds (video sets)")
    variety: float = Field(0.0, ge=0, le=1, description="how much more people differ in shape and looks")
    intensity: Range = Field((0.7, 1.1), description="strength of an expression; 1: in full")
    stray_units: Probability = Field(0.0, description="how often each action unit joins an expression (image sets)")
    yaw_sigma: float = Field(6.0, ge=0, description="degrees")
    pitch_sigma: float = Field(4.0, ge=0, description="degrees")
    roll_sigma: float = Field(4.0, ge=0, description="degrees")
    face_share: Range = Field((0.44, 0.54), description="share of the frame's height between brows and chin")
    shift: float = Field(0.03, ge=0, description="of the face from the middle of the frame, share of the size, in +-")
    distance: Range = Field((0.6, 1.5), description="of the camera, metres")
    light_azimuth: Range = Field((-60.0, 60.0), description="degrees from the front, positive: from the right")
    light_elevation: Range = Field((10.0, 60.0), description="degrees")
    light_contrast: Range = Field((0.35, 0.75), description="share of the light that comes from the key light")
    exposure: Range = Field((-0.35, 0.35), description="stops")
    warmth: Range = Field((-0.12, 0.12), description="of the light: negative blue, positive yellow")
    background: tuple[Literal["flat", "gradient", "noise", "clutter"], ...] = ("flat", "gradient", "noise", "clutter")
    blur: Range = Field((0.0, 0.7), description="sigma, px")
    noise: Range = Field((0.0, 0.02), description="sigma of sensor noise, share of full scale")
    jpeg_quality: Range = (80.0, 97.0)
    occlusion: Probability = Field(0.0, description="how often something covers part of the face")
    gaze: float = Field(0.25, ge=0, le=1, description="how far the eyes may look away; 1: as far as eyes go")
    fps: float | None = Field(None, gt=0, description="frames a second; null: 25 (video), 200 (micro)")
    seconds: Range = Field((1.6, 3.2), description="length of a clip (video sets)")
    dilution: Range = Field((0.2, 0.6), description="share of a clip that shows the expression (video sets)")
    frames: Range = Field((8.0, 40.0), description="length of a clip (micro sets)")

    @property
    def rate(self) -> float:
        """Frames a second of the clips."""
        return self.fps or (200.0 if self.kind == "micro" else 25.0)

    @field_validator("classes")
    @classmethod
    def _known_expressions(cls, classes: tuple[str, ...]) -> tuple[str, ...]:
        for name in classes:
            if name not in EMOTIONS:
                raise ValueError(f"{name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        return classes


class Faces(Strict):
    """How the faces of a dataset are found and aligned."""

    mode: Literal["detect", "boxes", "aligned"] = Field(
        "detect", description="find faces; take the boxes of the index; or frames are aligned faces already"
    )
    detector: Literal["dlib", "yunet", "none"] = Field(
        "dlib", description="none: for faces that are aligned already and are not looked for again, or have boxes"
    )
    detector_model: Place | None = Field(None, description="ONNX file of YuNet")
    upsample: int = Field(1, ge=0, le=3, description="times the image is doubled in dlib's last look")
    landmarks: Literal["mobilefacenet", "dlib68"] = "mobilefacenet"
    landmark_model: Place | None = Field(None, description="file of the landmark model, other than the packaged one")
    size: int = Field(224, ge=32, le=1024, description="height and width of an aligned face, px")
    eye_distance: float = Field(
        0.34,
        gt=0.1,
        lt=0.8,
        description="distance of the eye centres in the aligned face, as a share of its width",
    )
    encoding: Literal["jpeg", "png"] = "jpeg"
    quality: int = Field(95, ge=50, le=100)
    smoothing: float = Field(
        0.05, ge=0, description="standard deviation, in seconds, of the Gaussian that smooths a video's key points"
    )
    misses: Literal["drop", "whole"] = Field(
        "drop", description="a sample without a face: leave it out and count it, or use the whole frame"
    )
    max_megapixels: float = Field(
        100.0, gt=0, le=178, description="larger images are reported, not decoded; over 178 Pillow refuses by itself"
    )

    @model_validator(mode="after")
    def _detector_can_detect(self) -> Self:
        if self.mode == "detect" and self.detector == "none":
            raise ValueError("mode detect needs a detector: dlib or yunet; without one set mode to boxes or aligned")
        if self.mode == "detect" and self.detector == "yunet" and self.detector_model is None:
            raise ValueError("detector yunet needs detector_model, the path of its ONNX file (OpenCV Zoo)")
        return self


class LabelSet(Strict):
    """Official classes of a dataset: one entry of ``datasets/label_sets.yaml``."""

    layout: str
    source: str = Field(description="who says so")
    classes: list[str]
    labels: dict[str, str] = {}
    ignore: list[str] = []
    relabel: dict[str, str] = Field({}, description="sample -> label that replaces the annotated one")
    needs_apex: bool = Field(False, description="leave out clips whose apex is missing or the onset itself")
    without: list[str] = Field([], description="samples that are left out whatever the files say of them")


NETWORKS = {
    **dict.fromkeys(("poster_t", "poster_s", "poster_l", "poster_v2"), ("mobilefacenet",)),
    **dict.fromkeys(("poster_image_only", "ifdd_3dvit", "ifdd_2dcnn", "mvit_clip", "mobilenetv2_clip", "frl_dgt"), ()),
}
"""Networks of :mod:`duchenne.models`, known without its import, which takes seconds, and their parts whose weights come
with this package."""

LABEL_SETS = {
    name: LabelSet.model_validate(block)
    for name, block in YAML(typ="safe", pure=True).load(Path(__file__).parent / "datasets" / "label_sets.yaml").items()
}
"""Name -> classes, what the labels of the files mean, and which of them are left out."""


MANIFEST_COLUMNS = (
    "sample", "path", "label", "subject", "source", "split", "fold", "onset", "apex", "offset", "fps", "aus",
    "x0", "y0", "x1", "y1",
)  # fmt: skip
"""Columns of a manifest that have a meaning, beside ``votes_<emotion>``; all others are kept as factors."""


class Dataset(Strict):
    """Where the samples are, which emotions they show and how their faces are aligned."""

    layout: Literal[
        "synth", "folder", "manifest",
        "raf_db", "affectnet", "caer_s", "dfew", "ferv39k", "mafw", "casme2", "samm", "smic", "megc2019",
        "fer2013", "casme3",
    ]  # fmt: skip
    root: Place
    label_set: str | None = Field(None, description="official classes and labels; default: the layout's, if it has one")
    classes: list[str] = Field(
        min_length=2, description="emotion names in class order, compound ones joined by _; default: of the label set"
    )
    labels: dict[Word, str] = Field({}, description="label as the files spell it -> emotion name")
    ignore: list[Word] = Field([], description="labels left out on purpose (after renaming)")
    manifest: Annotated[str, AfterValidator(lambda name: str(expanded(name)))] = Field(
        "manifest.csv", description="table that names the samples: CSV, Excel or Parquet, below root or anywhere"
    )
    columns: dict[str, str] = Field({}, description="column as the manifest names it -> column of Duchenne")
    splits: dict[Word, Literal["train", "val", "test"]] = Field(
        {}, description="part as the manifest names it -> train, val or test"
    )
    annotations: Place | None = Field(None, description="file or folder of the annotation lists, if not below root")
    factors: Place | None = Field(
        None, description="CSV with a column sample and one for each thing known of it, below root or anywhere"
    )
    media: str | None = Field(None, description="which of several forms to use, by folder name; default: see layout")
    apex: Literal["middle", "difference", "none"] = Field(
        "middle",
        description="where a micro-expression's apex is missing or outside the clip: the middle frame; the frame that "
        "differs most from onset and offset; or leave it missing",
    )
    limit: int | None = Field(None, ge=1, description="use about this many samples: whole subjects, stratified")
    bad_rows: Literal["stop", "skip"] = "stop"
    faces: Faces = Faces()

    @model_validator(mode="before")
    @classmethod
    def _fill_from_the_label_set(cls, block: Any) -> Any:
        if not isinstance(block, dict):
            return block
        layout = block.get("layout")
        sets = [name for name, labels in LABEL_SETS.items() if labels.layout == layout]
        name = block.get("label_set") or (layout if layout in sets else None)
        if name is None and not sets:
            return block
        if name not in sets:
            given = "is missing" if name is None else f"{name!r} does not go with layout {layout}"
            known = f" (choose from {', '.join(sets)})" if sets else ": leave it out"
            raise ValueError(f"label_set {given}{known}")
        preset = LABEL_SETS[name]
        return {
            "classes": preset.classes,
            **block,
            "label_set": name,
            "labels": preset.labels | (block.get("labels") or {}),
            "ignore": [*preset.ignore, *(word for word in block.get("ignore") or [] if word not in preset.ignore)],
        }

    @field_validator("classes")
    @classmethod
    def _known_and_distinct(cls, classes: list[str]) -> list[str]:
        for name in classes:
            if not is_emotion(name):
                raise ValueError(f"{name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        if len(set(classes)) != len(classes):
            raise ValueError("a class is named twice")
        return classes

    @model_validator(mode="after")
    def _labels_lead_to_emotions(self) -> Self:
        for word, name in self.labels.items():
            if not is_emotion(name) and name not in self.ignore:
                raise ValueError(f"labels.{word}: {name!r} is not an emotion name{nearest(name, EMOTIONS)}")
        return self

    @model_validator(mode="after")
    def _columns_are_those_of_a_manifest(self) -> Self:
        if self.layout != "manifest" and (given := [name for name in ("columns", "splits") if getattr(self, name)]):
            raise ValueError(f"{' and '.join(given)}: only layout manifest has such, this is {self.layout}")
        for word, name in self.columns.items():
            if name in MANIFEST_COLUMNS or name.removeprefix("votes_") not in ("", name):
                continue
            if word in MANIFEST_COLUMNS:
                raise ValueError(f"columns.{word}: the file's name stands first: write {{{name}: {word}}}")
            known = f"{', '.join(MANIFEST_COLUMNS)}, votes_<emotion>"
            raise ValueError(f"columns.{word}: there is no column {name!r}{nearest(name, MANIFEST_COLUMNS)}: {known}")
        names = list(self.columns.values())
        if twice := [name for name in dict.fromkeys(names) if names.count(name) > 1]:
            raise ValueError(f"columns: {' and '.join(twice)} is given to more than one column of the manifest")
        return self


class Protocol(Strict):
    """Which samples train, validate and test."""

    kind: Literal["official", "kfold", "loso", "holdout"]
    folds: int = Field(5, ge=2, description="for kfold")
    test_share: Share = Field(0.2, description="share of the subjects that test (holdout)")
    val_share: Share = Field(0.1, description="share of each training part's subjects that validate")
    seed: int = 0
    near_duplicates: Literal["stop", "drop", "ignore"] = Field(
        "stop",
        description="near-duplicate images in two parts of a fold: stop; drop the copy in training; or ignore: keep "
        "both, count them, and measure without them too",
    )
    hash_distance: int = Field(24, ge=0, le=64, description="bits of 256 by which near-duplicates may differ")


class Model(Strict):
    """A network of the registry with its options and, where there are any, published weights."""

    architecture: str
    options: dict[str, Any] = {}
    pretrained: dict[str, Place | None] = Field(
        {},
        description="part of the network -> file as its owners publish it; packaged: the one in this package, which is "
        "the default where there is one; null: random weights",
    )

    @model_validator(mode="before")
    @classmethod
    def _packaged_by_default(cls, block: Any) -> Any:
        if isinstance(block, dict) and isinstance(given := block.get("pretrained", {}), dict):
            default = dict.fromkeys(NETWORKS.get(str(block.get("architecture")), ()), "packaged")
            return block | {"pretrained": default | given}
        return block

    @field_validator("pretrained")
    @classmethod
    def _packaged_parts_exist(cls, files: dict[str, Path | None]) -> dict[str, Path | None]:
        for part, path in files.items():
            if path == Path("packaged") and part not in PACKAGED:
                raise ValueError(f"no weights of {part} are packaged; only those of {', '.join(PACKAGED)} are")
        return files

    @property
    def files(self) -> dict[str, Path]:
        """``pretrained`` with the paths of packaged files, without the parts that start from random weights."""
        named = {part: PACKAGED[part] if path == Path("packaged") else path for part, path in self.pretrained.items()}
        return {part: path for part, path in named.items() if path is not None}

    @property
    def published(self) -> list[str]:
        """Parts whose weights are a file of their owners."""
        return [part for part, path in self.pretrained.items() if path not in (None, Path("packaged"))]


class Erase(Strict):
    """Random erasing after normalisation (torchvision's RandomErasing, value 0)."""

    probability: Probability = 0.5
    scale: Range = (0.02, 0.1)
    ratio: Range = (0.3, 3.3)


class Crop(Strict):
    """A random part of the picture, resized to the network's input (torchvision's RandomResizedCrop)."""

    scale: Range = Field((0.08, 1.0), description="share of the picture's area")
    ratio: Range = Field((3 / 4, 4 / 3), description="width to height")
    interpolation: Literal["bilinear", "bicubic"] = "bilinear"


class Jitter(Strict):
    """Random recolouring, in random order (torchvision's ColorJitter)."""

    brightness: float = Field(0.0, ge=0)
    contrast: float = Field(0.0, ge=0)
    saturation: float = Field(0.0, ge=0)
    hue: float = Field(0.0, ge=0, le=0.5)


class Augment(Strict):
    """Augmentation of training images and clips; all frames of a clip are treated alike."""

    noise: Probability = Field(0.0, description="how often POSTER's code first mirrors or adds noise, at even odds")
    hflip: Probability = 0.5
    resized_crop: Crop | None = None
    rotate: float = Field(0.0, ge=0, le=90, description="degrees, uniform in +-")
    translate: Share = Field(0.0, description="share of the size, uniform in +-")
    scale: Range = (1.0, 1.0)
    jitter: Jitter | None = None
    erase: Erase | None = None
    apex_random: Share = Field(0.0, description="r of FRL-DGT: how far from the apex its stand-in may lie (pairs)")


class Mix(Strict):
    """Mixup and CutMix of a batch with itself in reverse order (timm's Mixup)."""

    mixup: float = Field(0.0, ge=0, description="alpha of mixup's Beta distribution; 0: never")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix's Beta distribution; 0: never")
    switch: Probability = Field(0.5, description="share of CutMix where both are on")
    probability: Probability = Field(1.0, description="share of the batches that are mixed")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.mixup and not self.cutmix:
            raise ValueError("mixup and cutmix are both 0: give one of them, or leave mix out")
        return self


class Clip(Strict):
    """Which frames a network for clips sees."""

    frames: int = Field(16, ge=1)
    stride: int = Field(1, ge=1, description="of a window")
    train: Literal["random_window", "uniform"] = "random_window"
    test: Literal["windows", "random_window", "uniform"] = "windows"
    repeat: Literal["first", "last"] = Field(
        "first", description="which frames of a clip shorter than a window come once more than the others"
    )


class Recipe(Strict):
    """How a network is trained."""

    epochs: int = Field(ge=1)
    pretrain_epochs: int = Field(0, ge=0, description="before the epochs, on the network's loss without labels")
    pretrain_lr: float | None = Field(None, gt=0, description="constant, of these epochs; null: lr")
    early_stop_above: Share | None = Field(None, description="stop after an epoch with a higher WAR in validation")
    batch_size: int = Field(ge=1)
    drop_last: bool = Field(False, description="leave out the samples of an epoch that fill no batch")
    eval_batch_size: int = Field(32, ge=1)
    optimizer: Literal["adam", "adamw", "sgd"] = "adam"
    lr: float = Field(gt=0)
    weight_decay: float = Field(0.0, ge=0)
    sam_rho: float | None = Field(None, gt=0, description="radius of sharpness-aware minimisation; null: plain")
    schedule: Literal["exponential", "cosine", "one_cycle", "constant", "warmup_cosine", "ifdd"] = "constant"
    warmup_epochs: int = Field(0, ge=0, description="of warmup_cosine and ifdd")
    gamma: float = Field(0.98, gt=0, le=1, description="factor per epoch (exponential)")
    loss: Literal["ce", "ce_plus_2ls"] = Field("ce", description="cross-entropy; POSTER's: plus twice the smoothed one")
    label_smoothing: Share = Field(0.0, description="of ce")
    clip_grad: float | None = Field(None, gt=0, description="largest gradient norm")
    sampler: Literal["shuffle", "balanced"] = "shuffle"
    targets: Literal["hard", "soft"] = Field(
        "hard", description="what the loss compares with: the label; or the annotators' votes as shares of the classes"
    )
    ema_decay: float | None = Field(None, gt=0, lt=1)
    au_centers: Literal["train", "dataset"] = Field(
        "train",
        description="whose mean face places the action-unit regions: the training part's, or, as in FRL-DGT's "
        "supplement, that of all samples, test people included",
    )
    mix: Mix | None = None
    clip: Clip = Clip()
    augment: Augment = Augment()

    @model_validator(mode="after")
    def _fields_agree(self) -> Self:
        warms_up = self.schedule in ("warmup_cosine", "ifdd")
        if warms_up and not 0 < self.warmup_epochs < self.epochs:
            raise ValueError(f"schedule {self.schedule} needs warmup_epochs above 0 and below epochs")
        if self.warmup_epochs and not warms_up:
            raise ValueError(f"schedule {self.schedule} has no warm-up: leave warmup_epochs out")
        if self.loss != "ce" and self.label_smoothing:
            raise ValueError(f"loss {self.loss} has a smoothing of its own: leave label_smoothing out")
        return self


class Variant(Strict):
    """One row of a results table: a network, a recipe, a dataset and a protocol."""

    dataset: str
    init_from: str = Field("scratch", description="variant whose weights training starts from")
    protocol: Protocol
    model: Model
    recipe: Recipe
    selection: Literal["last", "val", "test", "train"] = Field(
        "val", description="which epoch is reported: the last, or the best one in this part; train: the lowest loss"
    )
    monitor: Monitor = Field("uar", description="by what the epoch is picked: a metric (duchenne.metrics), or loss")
    seed: int = 0
    reproduces: str | None = Field(
        None, description="the variant whose printed values these results are compared with; null: this one"
    )
    note: str = Field("", description="shown with the results")

    @model_validator(mode="after")
    def _val_needs_validation_subjects(self) -> Self:
        if self.selection == "val" and self.protocol.val_share == 0:
            raise ValueError("selection val needs protocol.val_share above 0")
        return self

    @model_validator(mode="after")
    def _training_part_has_its_loss_alone(self) -> Self:
        if self.selection == "train" and self.monitor != "loss":
            raise ValueError("selection train picks the epoch of the lowest training loss: set monitor: loss")
        return self

    def decides(self) -> dict[str, Any]:
        """Fields that its results depend on, as JSON has them."""
        return self.model_dump(mode="json", exclude={"note", "reproduces"})


class LandmarkNet(Strict):
    """How the landmark network is trained."""

    dataset: str = Field(description="a synth image set")
    limit: int | None = Field(None, ge=2, description="use the first so many training faces")
    epochs: int = Field(ge=1)
    batch_size: int = Field(64, ge=2)
    lr: float = Field(2e-3, gt=0, description="the highest of one cycle")
    weight_decay: float = Field(0.01, ge=0)
    bend: float = Field(0.0, ge=0, le=0.2, description="largest SD by which parts of a face are moved, eye distances")
    map_weight: float = Field(0.0, ge=0, description="of the loss of the points that are read from the maps of 14 x 14")
    init_from: str = Field("scratch", description="landmark net whose weights training starts from")
    seed: int = 0


class Compute(Strict):
    """The machine; nothing here makes a stage stale."""

    jobs: int = Field(-1, description="processes for rendering and face work; -1: one a core")
    backend: Literal["loky", "threading", "dask", "ray"] = "loky"
    device: str = "auto"
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="of training; auto: bf16 where the hardware has it. A trained network predicts in the precision it "
        "was trained in; published weights in fp32, unless this says bf16",
    )
    loader_workers: int = Field(0, ge=0)
    folds_at_once: Literal["auto"] | Annotated[int, Field(ge=1)] = Field(
        "auto", description="trained in as many processes; auto: one on a GPU, else what cores and memory allow"
    )
    channels_last: bool = True
    compile: bool = False


class Report(Strict):
    """The page."""

    show_faces: bool = Field(
        True, description="false: no face in the page, beside it or in MLflow, as licences may demand"
    )
    gallery: int = Field(24, ge=0, description="most confident mistakes shown per run")
    tsne_perplexity: float = Field(50.0, gt=1)
    tsne_iterations: int = Field(1000, ge=250)
    bootstrap: int = Field(2000, ge=100, description="resamples behind every interval")


class Catalog(Strict):
    """All of ``params.yaml``."""

    compute: Compute = Compute()
    report: Report = Report()
    rendered: dict[Name, Synth] = Field({}, description="sets of rendered faces, each in data/raw/<name>")
    datasets: dict[Name, Dataset]
    landmark_nets: dict[Name, LandmarkNet] = {}
    variants: dict[Name, Variant]

    def with_library(self, section: str, name: str) -> Catalog:
        """This catalog and, where it lacks a dataset or variant that the library has, that one with all it needs."""
        if name in getattr(self, section) or name not in library()[section]:
            return self
        added = Catalog.model_validate(required_by(section, name))
        return self.model_copy(update={part: getattr(added, part) | getattr(self, part) for part in SECTIONS})


def load(path: str | Path = "params.yaml") -> Catalog:
    """Read and check ``params.yaml``.

    Raises:
        CatalogError: with every problem of the file, one a line, and the nearest valid name for each unknown one.
    """
    path = Path(path)
    try:
        text = path.read_text("utf-8")
        # DVC's own reader: the same file must mean the same to both, to the last 1e-5.
        yaml = YAML(typ="safe", pure=True)
        aliases = [token for token in yaml.scan(text) if isinstance(token, AnchorToken | AliasToken)]
        tree = None if aliases else YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise CatalogError(f"{path} does not exist: run from the project's root") from None
    except OSError as error:
        raise CatalogError(f"{path} cannot be read: {error.strerror}") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise CatalogError(f"{path} is not valid YAML: {error}") from None
    if aliases:
        raise CatalogError(
            f"{path}, line {aliases[0].start_mark.line + 1}: anchors and aliases (&{aliases[0].value}) are not "
            "supported, for `dvc exp run -S` would change other variants through them: write the block out"
        )
    return check(tree, path)


def check(tree: Any, path: Path) -> Catalog:
    """The contents of ``params.yaml`` as a catalog; ``path`` is what errors call it.

    Raises:
        CatalogError: as for :func:`load`.
    """
    if not isinstance(tree, dict):
        raise CatalogError(f"{path} holds no blocks: it needs {', '.join(Catalog.model_fields)}")
    try:
        catalog = Catalog.model_validate(tree)
    except ValidationError as error:
        problems = _explain(error)
    else:
        problems = [*_unread(tree), *_dangling(catalog)]
        if not problems:
            return catalog
    raise CatalogError("\n".join([f"{path} cannot be used:", *(f"  {line}" for line in problems)]))


@cache
def whole_library() -> Catalog:
    """Every block of the library."""
    return Catalog.model_validate(library())


def complete(block: dict[str, Any]) -> dict[str, Any]:
    """A variant's block with the default of every field that it leaves out, so that ``dvc exp run -S`` can set each.

    Optional parts that are not there (``mix``, ``erase``, ...) and words (``note``) are not added.
    """
    return _stated(block, Variant.model_validate(block))


def _stated(block: dict[str, Any], model: BaseModel) -> dict[str, Any]:
    """Values of a block, and the defaults of the fields beside them."""
    whole: dict[str, Any] = {}
    values = model.model_dump(mode="json")
    for name, field in type(model).model_fields.items():
        part = any(_is_block(kind) for kind in _parts_of(field.annotation))
        if part and isinstance(block.get(name), dict):
            whole[name] = _stated(block[name], getattr(model, name))
        elif name in block or not (part or name in ("note", "reproduces")):
            whole[name] = values[name]
    return whole


def _is_block(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts_of(annotation: Any) -> tuple[Any, ...]:
    """The members of a union, or the annotation itself."""
    return get_args(annotation) if get_origin(annotation) in (Union, UnionType) else (annotation,)


def _explain(error: ValidationError) -> Iterator[str]:
    """One line a mistake, each with its place in the file."""
    for item in error.errors():
        place = tuple(part for part in item["loc"] if part != "[key]")  # of a name, not of its block
        message = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            fields = _fields(place[:-1])
            message = "unknown key" + (nearest(str(place[-1]), fields) or f" (known here: {', '.join(fields)})")
        elif item["input"] is None and item["type"] in ("dict_type", "model_type", "model_attributes_type"):
            message = f"is empty: write `{place[-1]}: {{}}`, or what belongs there"
        elif item["type"] == "literal_error":
            given, expected = str(item["input"]), item["ctx"]["expected"]
            message = f"{given!r} is not one of {expected}{nearest(given, expected.split(chr(39)))}"
        yield f"{'.'.join(map(str, place))}: {message}"


def _fields(place: tuple[int | str, ...]) -> list[str]:
    """The keys that the block at ``place`` may hold."""
    kind: Any = Catalog
    for part in place:
        # dict[Name, Block] -> Block; otherwise the field's own annotation, Block or Block | None
        kind = get_args(kind)[1] if get_origin(kind) is dict else kind.model_fields[str(part)].annotation
        kind = _parts_of(kind)[0]
    return list(kind.model_fields)


TAKEN = {"scratch": "models/scratch is where training without other weights starts", "published": "results/published/"}
"""Names that variants and landmark nets cannot have: their folder is something else."""


def _unread(tree: dict[str, Any]) -> Iterator[str]:
    """Fields that dvc.yaml reads from the file itself: DVC knows neither our defaults nor ``~``."""
    for name, block in tree["datasets"].items():
        if str(block["root"]).startswith("~"):
            yield f"datasets.{name}.root: DVC does not know ~: write {expanded(Path(block['root']))}"
    for section in ("variants", "landmark_nets"):
        for name, block in (tree.get(section) or {}).items():
            if "init_from" not in block:
                yield f"{section}.{name}.init_from: is missing, and dvc.yaml reads it: add `init_from: scratch`"
    for section in ("rendered", "landmark_nets"):
        if section not in tree:
            yield f"{section}: is missing, and dvc.yaml reads it: add `{section}: {{}}`"


def _dangling(catalog: Catalog) -> Iterator[str]:
    """Names that lead nowhere."""

    def known(place: str, name: str, section: str, *more: str) -> Iterator[str]:
        names = [*more, *getattr(catalog, section)]
        if name not in names:
            adding = f": `duchenne add {name}` adds it" if name in library()[section] else ""
            yield f"{place}: there is no {name!r} in {section}{adding or nearest(name, names)}"

    for name, dataset in catalog.datasets.items():
        if dataset.layout == "synth":
            yield from known(f"datasets.{name}", name, "rendered")
            if dataset.root != (place := Path("data/raw") / name):
                yield f"datasets.{name}.root: is {dataset.root}, but rendered.{name} goes to {place}"
    for name in catalog.variants.keys() | catalog.landmark_nets.keys():
        if name in TAKEN:
            yield f"{name!r} cannot be run: {TAKEN[name]}; use another name"
        if name in catalog.variants and name in catalog.landmark_nets:
            yield f"{name!r} is a variant and a landmark net, and both would write models/{name}: rename one"
    for name, net in catalog.landmark_nets.items():
        yield from known(f"landmark_nets.{name}.dataset", net.dataset, "rendered")
        yield from known(f"landmark_nets.{name}.init_from", net.init_from, "landmark_nets", "scratch")
    for name, variant in catalog.variants.items():
        yield from known(f"variants.{name}.dataset", variant.dataset, "datasets")
        yield from known(f"variants.{name}.init_from", variant.init_from, "variants", "scratch")
        start = catalog.variants.get(variant.init_from)
        if start and start.dataset == variant.dataset and start.protocol != variant.protocol:
            yield f"variants.{name}: {variant.init_from} knows other subjects of this dataset: use its protocol"
