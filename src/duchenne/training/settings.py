"""Settings of a variant with its network and recipe, and of the machine: ``variants`` and ``compute``."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, ValidationInfo, field_validator, model_validator

from duchenne.blocks import Place, Probability, Range, Seed, Share, Strict
from duchenne.errors import nearest
from duchenne.metrics import METRICS
from duchenne.networks import facts_of, networks
from duchenne.protocol import Protocol
from duchenne.weights import PACKAGED

OTHER_WEIGHTS = ("pretrained", "checkpoint_path")
"""Options of timm that load weights, from a file, unpickled by its older versions, or over the network."""
LARGEST = 10_000
"""Largest number in a network's options, and side of its input (chosen by us): what it asks for is allocated before its
weights are compared."""


def bounded(option: Any) -> bool:
    """Whether no number of an option is above :data:`LARGEST`, or none (NaN), and it holds no bytes."""
    match option:
        case bool():
            return True
        case int() | float():
            return abs(option) <= LARGEST
        case dict():
            return all(map(bounded, option.values()))
        case list() | tuple():
            return all(map(bounded, option))
    return not isinstance(option, bytes)


class Model(Strict):
    """A network of the registry with its options and, if there are any, published weights."""

    architecture: str = Field(description="a network of this package (duchenne.list_models()), or any of timm")
    options: dict[str, Any] = Field({}, description="arguments of the network's class; any other name is an error")
    pretrained: dict[str, Place | None] = Field(
        {},
        description="part of the network -> file published by its owners; packaged: the one in this package (of "
        "mobilefacenet by default, of ifdd_2dcnn and dgm on request); null: random weights",
    )

    @model_validator(mode="before")
    @classmethod
    def _packaged_by_default(cls, block: Any) -> Any:
        if isinstance(block, dict) and isinstance(given := block.get("pretrained", {}), dict):
            default = dict.fromkeys(facts_of(str(block.get("architecture"))).packaged, "packaged")
            return block | {"pretrained": default | given}
        return block

    @field_validator("options")
    @classmethod
    def _options_can_be_built(cls, options: dict[str, Any]) -> dict[str, Any]:
        for name, value in options.items():
            if name in OTHER_WEIGHTS:
                raise ValueError(f"{name} would load other weights through timm: name the file under model.pretrained")
            if not bounded(value):
                raise ValueError(f"{name} holds a number above {LARGEST:,}, none, or what is neither number nor text")
        return options

    @field_validator("options")
    @classmethod
    def _options_exist(cls, options: dict[str, Any], block: ValidationInfo) -> dict[str, Any]:
        architecture = block.data.get("architecture", "")
        network = networks().get(architecture)
        if network is None or network.options is None:
            return options  # the settings stage builds the network with them
        for name in options:
            if name not in network.options:
                hint = nearest(name, network.options) or f" (it has {', '.join(network.options) or 'none'})"
                raise ValueError(f"{architecture} has no option {name!r}{hint}")
        return options

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
        return {part: path for part, path in (self.pretrained | self.packaged).items() if path is not None}

    @property
    def packaged(self) -> dict[str, Path]:
        """Parts that start from packaged weights, and their files."""
        return {part: PACKAGED[part] for part, path in self.pretrained.items() if path == Path("packaged")}

    @property
    def published(self) -> list[str]:
        """Parts whose weights are published files of their owners."""
        return [part for part, path in self.pretrained.items() if path not in (None, Path("packaged"))]


class Erase(Strict):
    """Random erasing after normalisation (torchvision's RandomErasing, value 0)."""

    probability: Probability = Field(0.5, description="probability that a picture is erased in part")
    scale: Range = Field((0.02, 0.1), description="erased share of the picture's area")
    ratio: Range = Field((0.3, 3.3), description="width to height of the erased part")


class Crop(Strict):
    """A random part of the picture, resized to the network's input (torchvision's RandomResizedCrop)."""

    scale: Range = Field((0.08, 1.0), description="share of the picture's area")
    ratio: Range = Field((3 / 4, 4 / 3), description="width to height")
    interpolation: Literal["bilinear", "bicubic"] = Field("bilinear", description="method of resizing")


class Jitter(Strict):
    """Random recolouring, in random order (torchvision's ColorJitter)."""

    brightness: float = Field(0.0, ge=0, description="largest change, as a share")
    contrast: float = Field(0.0, ge=0, description="largest change, as a share")
    saturation: float = Field(0.0, ge=0, description="largest change, as a share")
    hue: float = Field(0.0, ge=0, le=0.5, description="largest rotation, as a share of the colour circle")


class Augment(Strict):
    """Augmentation of training images and clips; the same for all frames of a clip."""

    noise: Probability = Field(0.0, description="probability of POSTER's first step: mirror or add noise, half each")
    hflip: Probability = Field(0.5, description="probability of mirroring")
    resized_crop: Crop | None = None
    rotate: float = Field(0.0, ge=0, le=90, description="degrees, uniform in +-")
    translate: Share = Field(0.0, description="share of the size, uniform in +-")
    scale: Range = Field((1.0, 1.0), description="factor of the size, uniform")
    jitter: Jitter | None = None
    erase: Erase | None = None
    apex_random: Share = Field(0.0, description="r of FRL-DGT: maximum distance of a random apex (pairs)")


class Mix(Strict):
    """Mixup and CutMix of a batch with itself in reverse order (timm's Mixup)."""

    mixup: float = Field(0.0, ge=0, description="alpha of mixup's Beta distribution; 0: never")
    cutmix: float = Field(0.0, ge=0, description="alpha of CutMix's Beta distribution; 0: never")
    switch: Probability = Field(0.5, description="probability of CutMix if both are on")
    probability: Probability = Field(1.0, description="share of the batches that are mixed")

    @model_validator(mode="after")
    def _something_to_do(self) -> Self:
        if not self.mixup and not self.cutmix:
            raise ValueError("mixup and cutmix are both 0: give one of them, or leave mix out")
        return self


class Clip(Strict):
    """Choice of frames for networks that take clips."""

    frames: int = Field(16, ge=1, le=4096, description="frames that the network gets")
    stride: int = Field(1, ge=1, le=4096, description="frames from one frame of a window to the next")
    train: Literal["random_window", "uniform"] = Field(
        "random_window", description="a window at a random position, or the centre frames of equal segments"
    )
    test: Literal["windows", "random_window", "uniform"] = Field(
        "windows", description="the mean over consecutive windows; or one window or frames as in training"
    )
    repeat: Literal["first", "last"] = Field(
        "first", description="frames of a clip shorter than a window that are repeated once more than the others"
    )


class Recipe(Strict):
    """Training recipe of a network."""

    epochs: int = Field(ge=1, le=1_000_000, description="passes over the training part")
    pretrain_epochs: int = Field(
        0, ge=0, le=1_000_000, description="epochs on the network's loss without labels, before the others"
    )
    pretrain_lr: float | None = Field(None, gt=0, description="constant learning rate of these epochs; null: lr")
    early_stop_above: Share | None = Field(None, description="stop after an epoch with a higher WAR in validation")
    batch_size: int = Field(ge=1, le=65_536, description="samples a step, of all processes together")
    drop_last: bool = Field(False, description="leave out the last, incomplete batch of an epoch")
    eval_batch_size: int = Field(32, ge=1, le=4096, description="samples at a time without gradient; changes no result")
    optimizer: Literal["adam", "adamw", "sgd"] = Field("adam", description="of torch.optim")
    lr: float = Field(gt=0, description="learning rate, which the schedule changes")
    weight_decay: float = Field(0.0, ge=0, description="of the optimiser")
    sam_rho: float | None = Field(None, gt=0, description="radius of sharpness-aware minimisation; null: none")
    schedule: Literal["exponential", "cosine", "one_cycle", "constant", "warmup_cosine", "ifdd"] = Field(
        "constant",
        description="course of the learning rate; exponential: times gamma after each epoch; ifdd: IFDD's code",
    )
    warmup_epochs: int = Field(0, ge=0, le=1_000_000, description="warm-up of warmup_cosine and ifdd")
    gamma: float = Field(0.98, gt=0, le=1, description="factor per epoch (exponential)")
    loss: Literal["ce", "ce_plus_2ls"] = Field("ce", description="cross-entropy; POSTER's: plus twice the smoothed one")
    label_smoothing: Share = Field(0.0, description="of ce")
    clip_grad: float | None = Field(None, gt=0, description="largest gradient norm")
    sampler: Literal["shuffle", "balanced"] = Field(
        "shuffle",
        description="every sample once an epoch; or drawn with replacement, each class as often as the others",
    )
    targets: Literal["hard", "soft"] = Field(
        "hard", description="target of the loss: the label; or the annotators' votes as shares of the classes"
    )
    ema_decay: float | None = Field(
        None,
        gt=0,
        lt=1,
        description="decay a step of the moving average of the weights, which is then kept; null: none",
    )
    au_centers: Literal["train", "dataset"] = Field(
        "train",
        description="samples whose mean face places the action-unit regions: the training part, or, as in FRL-DGT's "
        "supplement, all samples, including test people",
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
            raise ValueError(f"loss {self.loss} includes smoothing: leave label_smoothing out")
        return self


def _monitor(value: str) -> str:
    known = [*METRICS, "loss"]
    if value not in known:
        raise ValueError(f"{value!r} is not a metric{nearest(value, known)}: give one of {', '.join(known)}")
    return value


Monitor = Annotated[str, AfterValidator(_monitor)]
"""Name of a metric of :data:`duchenne.metrics.METRICS`, or ``loss``."""


class Variant(Strict):
    """One row of a results table: a network, a recipe, a dataset and a protocol."""

    dataset: str = Field(description="a block of datasets")
    init_from: str = Field(
        "scratch",
        description="variant or imported network whose weights training starts from; "
        "another network gives the parts that both have, such as IR50",
    )
    protocol: Protocol
    model: Model
    recipe: Recipe
    selection: Literal["last", "val", "test", "train"] = Field(
        "val", description="reported epoch: the last, or the best one on this part; train: the lowest loss"
    )
    monitor: Monitor = Field("uar", description="criterion that picks the epoch: a metric (duchenne.metrics), or loss")
    test_each_epoch: Literal["auto"] | bool = Field(
        "auto",
        description="predict the test part after every epoch, so that the report says what choosing the epoch on it "
        "would be worth; changes neither weights nor the reported epoch; auto: where it costs at most about 25 % more. "
        "With selection test it is predicted in any case",
    )
    seed: Seed = Field(0, description="of weights, order of samples and augmentation")
    seeds: list[Seed] = Field(
        [],
        max_length=1000,
        description="instead of seed: every fold is trained with each of them; metrics are means over them, with "
        "intervals over subjects and seeds",
    )
    precision: Literal["auto", "fp32", "bf16"] = Field("auto", description="of training; auto: compute.precision")
    calibration: Literal["none", "temperature"] = Field(
        "none",
        description="temperature: divide the logits by a number fitted on the validation part of each fold after "
        "training (Guo et al. 2017), which changes confidences and no predicted class",
    )
    reproduces: str | None = Field(
        None, description="variant with whose printed values the results are compared; null: this one"
    )
    note: str = Field("", description="shown with the results")

    @field_validator("seeds")
    @classmethod
    def _each_seed_once(cls, seeds: list[int]) -> list[int]:
        if twice := sorted({seed for seed in seeds if seeds.count(seed) > 1}):
            raise ValueError(f"{', '.join(map(str, twice))} more than once: the same seed gives the same network")
        return sorted(seeds)

    @model_validator(mode="before")
    @classmethod
    def _seed_is_the_first_of_seeds(cls, block: Any) -> Any:
        seeds = block.get("seeds") if isinstance(block, dict) else None
        if not (isinstance(seeds, list) and seeds and all(isinstance(seed, int) for seed in seeds)):
            return block
        if block.get("seed", min(seeds)) != min(seeds):
            raise ValueError(f"seed {block['seed']} and seeds {seeds}: give seeds alone")
        return {**block, "seed": min(seeds)}

    @model_validator(mode="after")
    def _val_needs_validation_subjects(self) -> Self:
        if self.selection == "val" and self.protocol.val_share == 0:
            raise ValueError("selection val needs protocol.val_share above 0")
        return self

    @model_validator(mode="after")
    def _calibration_needs_validation_subjects(self) -> Self:
        if self.calibration != "none" and self.protocol.val_share == 0:
            raise ValueError(
                f"calibration {self.calibration} is fitted on the validation part: it needs protocol.val_share above 0"
            )
        return self

    @model_validator(mode="after")
    def _training_part_has_its_loss_alone(self) -> Self:
        if self.selection == "train" and self.monitor != "loss":
            raise ValueError("selection train picks the epoch of the lowest training loss: set monitor: loss")
        return self

    @property
    def every_seed(self) -> list[int]:
        """Seeds that are trained, ascending. The networks of the first are those that are shown, exported and used."""
        return self.seeds or [self.seed]

    def further(self, seed: int) -> int | None:
        """Return the seed, or None if it is the first, as :meth:`duchenne.workspace.Workspace.fold` takes it."""
        return None if seed == self.seed else seed

    def fold_title(self, seed: int, fold: int) -> str:
        """Name a network for people: ``fold 2``, or with several seeds ``seed 1, fold 2``."""
        return f"seed {seed}, fold {fold}" if self.seeds else f"fold {fold}"

    def with_seed(self, seed: int) -> Self:
        """Return the variant of one seed alone."""
        return self.model_copy(update={"seed": seed, "seeds": []})

    def on(self, compute: Compute) -> Compute:
        """Return the settings of a machine with the precision of this variant, where it names one."""
        return compute if self.precision == "auto" else compute.model_copy(update={"precision": self.precision})

    def decides(self) -> dict[str, Any]:
        """Return the fields on which its results depend, as values for JSON."""
        return self.model_dump(mode="json", exclude={"note", "reproduces", "test_each_epoch"})


class FoldResources(Strict):
    """Resources of a fold while it trains."""

    gpus: Literal["auto"] | Annotated[float, Field(ge=0)] = Field(
        "auto",
        description="GPUs, or a fraction of one; auto: one, and on this machine a fraction if folds outnumber GPUs and "
        "memory allows",
    )
    cores: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto",
        description="threads that compute, on which the last bits of the weights depend; auto: an equal share for each",
    )
    memory: Literal["auto"] | Annotated[float, Field(gt=0)] = Field(
        "auto", description="GB; auto: 6.4 on this machine; a cluster is not asked for any"
    )

    @field_validator("gpus")
    @classmethod
    def _whole_or_a_part_of_one(cls, gpus: float | str) -> float | str:
        if isinstance(gpus, float) and gpus > 1 and gpus != round(gpus):
            raise ValueError(f"{gpus} is neither a whole number nor a part of one GPU")
        return gpus


class Compute(Strict):
    """Where work runs, and the settings of the machine; none of them makes a stage stale."""

    engine: Literal["local", "ray", "dask"] = Field(
        "local", description="what runs rendering, face work and folds: processes of this machine, Ray or Dask"
    )
    address: str | None = Field(
        None,
        description="of the cluster, such as tcp://10.0.0.1:8786; null: RAY_ADDRESS or DASK_SCHEDULER_ADDRESS, or else "
        "a cluster of this machine, for the time of the command",
    )
    jobs: int = Field(
        -1, le=4096, description="processes for rendering and face work on this machine; -1: one per core"
    )
    fold: FoldResources = FoldResources()
    device: str = Field("auto", description="such as cpu or cuda:1; auto: the first GPU, else the CPU")
    precision: Literal["auto", "fp32", "bf16"] = Field(
        "auto",
        description="precision of training; auto: bf16 if the hardware has it. A trained network predicts in its "
        "training precision; published weights in fp32, unless this says bf16",
    )
    loader_workers: Literal["auto"] | Annotated[int, Field(ge=0, le=1024)] = Field(
        "auto",
        description="processes that load samples, per training process; auto: as many as keep the device busy, "
        "measured when training begins; none on a CPU. The batches are the same for any number",
    )
    folds_at_once: Literal["auto"] | Annotated[int, Field(ge=1, le=4096)] = Field(
        "auto", description="folds trained at the same time; auto: as many as GPUs, or else cores, and memory allow"
    )
    processes: Literal["auto"] | Annotated[int, Field(ge=1, le=1024)] = Field(
        1,
        description="processes that share every batch of a fold; auto: one per visible GPU, on a CPU one. The results "
        "are those of one process, up to rounding; 1 by default, because several GPUs were never tried",
    )
    channels_last: bool = Field(True, description="memory format of pictures; clips are contiguous")
    compile: bool = Field(False, description="run the network through torch.compile")

    @field_validator("jobs")
    @classmethod
    def _some_jobs(cls, jobs: int) -> int:
        if jobs < 1 and jobs != -1:
            raise ValueError(f"{jobs} is not a number of processes: give -1, for one per core, or at least 1")
        return jobs

    @model_validator(mode="before")
    @classmethod
    def _backend_is_now_engine(cls, block: Any) -> Any:
        if isinstance(block, dict) and "backend" in block:
            engine = block["backend"] if block["backend"] in ("ray", "dask") else "local"
            raise ValueError(f"backend is now engine: write `engine: {engine}` in its place")
        return block

    @model_validator(mode="after")
    def _a_cluster_gives_each_fold_its_device(self) -> Self:
        if self.engine != "local" and self.device not in ("auto", "cpu"):
            raise ValueError(f"engine {self.engine} gives each fold its GPU: set device to auto or cpu")
        if self.engine == "local" and self.address:
            raise ValueError("engine local has no address: set engine to ray or dask, or address to null")
        return self
