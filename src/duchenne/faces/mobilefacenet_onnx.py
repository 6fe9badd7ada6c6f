"""MobileFaceNet as an ONNX model with folded BatchNorm, for OpenCV: half the time of PyTorch for one crop on a CPU.

One crop at a time keeps its maps in the cache, and its points do not depend on what else is computed. The few fields of
ONNX that are needed are written here, because the package ``onnx`` is much larger than all of this.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np

SIZE = 112
"""Side of the network's input, px."""

State = Mapping[str, np.ndarray]

EPSILON = 1e-5
"""Added to the variances by PyTorch's BatchNorm."""

STAGES = {"conv_23": 0, "conv_3": 4, "conv_34": 0, "conv_4": 6, "conv_45": 0, "conv_5": 2}
"""Member of the network -> number of residual bottlenecks; 0: a bottleneck that halves the sides."""


def onnx_model(state: State, mean: np.ndarray, std: np.ndarray) -> bytes:
    """Return the network as the contents of an ONNX file.

    Its input is float32 (1, 3, 112, 112) RGB, pixel values minus ``255 * mean``; its output (1, 136, 1, 1): x and y of
    68 points as shares of the side.

    Args:
        state: the state dict of :class:`duchenne.models.backbones.mobilefacenet.MobileFaceNet`.
        mean, std: (3,), with which the network's images are normalised, for values from 0 to 1.
    """
    graph = _Graph()
    first = _folded(state, "conv1")
    weight = first[0] / (255 * std[:, None, None])  # padding stays 0: the mean is taken off before
    x = graph.convolution("input", weight, first[1], state["conv1.prelu.weight"], stride=2)
    x = graph.unit(x, state, "conv2_dw")
    for name, count in STAGES.items():
        for block in [f"{name}.model.{k}" for k in range(count)] or [name]:
            y = graph.unit(x, state, f"{block}.conv")
            y = graph.unit(y, state, f"{block}.conv_dw", stride=1 if count else 2)
            y = graph.unit(y, state, f"{block}.project")
            x = graph.node("Add", [x, y]) if count else y
    x = graph.unit(x, state, "conv_6_sep")
    x = graph.unit(x, state, "output_layer.conv_6_dw")
    scale, shift = _scale_and_shift(state, "output_layer.bn")
    linear = state["output_layer.linear.weight"] * scale[:, None]
    return graph.model(graph.convolution(x, linear[:, :, None, None], shift, name="output"))


def _scale_and_shift(state: State, norm: str) -> tuple[np.ndarray, np.ndarray]:
    """What a BatchNorm of fixed statistics multiplies by and adds."""
    gain, bias, mean, variance = (
        state[f"{norm}.{name}"].astype(np.float64) for name in ("weight", "bias", "running_mean", "running_var")
    )
    scale = gain / np.sqrt(variance + EPSILON)
    return scale, bias - scale * mean


def _folded(state: State, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Weight and bias of a convolution that does what it and the BatchNorm after it do."""
    scale, shift = _scale_and_shift(state, f"{name}.bn")
    return state[f"{name}.conv.weight"] * scale[:, None, None, None], shift


class _Graph:
    """The nodes and weights of a model while it is put together."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._count = 0

    def unit(self, x: str, state: State, name: str, stride: int = 1) -> str:
        """Append convolution, BatchNorm and, where the state has one, PReLU; returns the output's name."""
        return self.convolution(x, *_folded(state, name), state.get(f"{name}.prelu.weight"), stride)

    def convolution(
        self, x: str, weight: np.ndarray, bias: np.ndarray, slope: np.ndarray | None = None, stride: int = 1,
        name: str | None = None,
    ) -> str:  # fmt: skip
        side = weight.shape[2]
        attributes = {
            "kernel_shape": [side, side],
            "strides": [stride, stride],
            "pads": [1 if side == 3 else 0] * 4,
            "group": len(weight) if weight.shape[1] == 1 else 1,
        }
        x = self.node("Conv", [x, self._constant(weight), self._constant(bias)], attributes, name)
        return x if slope is None else self.node("PRelu", [x, self._constant(slope[:, None, None])])

    def node(
        self,
        kind: str,
        inputs: list[str],
        attributes: dict[str, int | list[int]] | None = None,
        name: str | None = None,
    ) -> str:
        name = name or self._name()
        fields = [_text(1, one) for one in inputs] + [_text(2, name), _text(3, name), _text(4, kind)]
        for key, value in (attributes or {}).items():
            many = isinstance(value, list)
            numbers = [_number(8 if many else 3, one) for one in (value if many else [value])]
            fields.append(_bytes(5, [_text(1, key), *numbers, _number(20, 7 if many else 2)]))
        self._parts.append(_bytes(1, fields))
        return name

    def model(self, output: str) -> bytes:
        """Return the whole file; ``output`` has 136 values."""
        outside = [
            _bytes(11, [_text(1, "input"), _shape((1, 3, SIZE, SIZE))]),
            _bytes(12, [_text(1, output), _shape((1, 136, 1, 1))]),
        ]
        graph = _bytes(7, [*self._parts, _text(2, "mobilefacenet"), *outside])
        return b"".join([_number(1, 8), graph, _bytes(8, [_number(2, 13)])])  # versions of the format and operators

    def _constant(self, value: np.ndarray) -> str:
        name = self._name()
        sides = [_number(1, side) for side in value.shape]
        values = np.ascontiguousarray(value, "<f4").tobytes()
        self._parts.append(_bytes(5, [*sides, _number(2, 1), _text(8, name), _bytes(9, [values])]))
        return name

    def _name(self) -> str:
        self._count += 1
        return f"v{self._count}"


def _shape(sides: Iterable[int]) -> bytes:
    """Type of a float32 tensor."""
    dimensions = [_bytes(1, [_number(1, side)]) for side in sides]
    return _bytes(2, [_bytes(1, [_number(1, 1), _bytes(2, dimensions)])])


def _varint(value: int) -> bytes:
    """Write an integer in protobuf's base 128."""
    digits = []
    while value > 127:
        digits.append(value & 127 | 128)
        value >>= 7
    return bytes([*digits, value])


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, parts: Iterable[bytes]) -> bytes:
    content = b"".join(parts)
    return _varint(field << 3 | 2) + _varint(len(content)) + content


def _text(field: int, value: str) -> bytes:
    return _bytes(field, [value.encode()])
