"""3 x 3 convolutions by Winograd's algorithm: fewer products for more additions.

A tile of M x M outputs depends on N x N = (M + 2) x (M + 2) inputs. Both and the weights are seen as polynomials, whose
product is found from its values at N points: N * N products a tile and channel, in place of 9 * M * M. With M = 4 that
is a quarter. The transforms to values and back cost additions and some accuracy, more of both the larger M is.

Source: A. Lavin, S. Gray: Fast Algorithms for Convolutional Neural Networks, 2015; the matrices follow from the points
    by interpolation (A. Toom, S. Cook).

Legend: B images, C channels in, F filters, H W rows and columns of the padded input, K size, T tiles, M rows and
columns of an output tile, N rows and columns of an input tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from fractions import Fraction
from functools import partial
from math import prod
from threading import Lock
from typing import Any, NamedTuple

import torch
from torch.nn import functional

from darkpy.inference.conv_kernels import WINOGRAD_TOLERANCE, ConvFunction, ConvTask

TAP_COUNT = 3
FEWEST_CHANNELS = 16
"""Channels and filters below which the transforms cost more than the products that they save."""
_INTERPOLATION_POINTS = (0, 1, -1, 2, -2, Fraction(1, 2), Fraction(-1, 2))
_POINT_ONE = 1  # index of the point 1, whose value counts once in each output
_CACHE_BYTES = 8 << 20
"""Size of the transformed tiles of a block, so that they stay in the processor's cache until they are used."""
_WEIGHTS_RATIO = 2  # size limit of a larger block over that of the weights, which are read again for each
_MAX_WASTE = 1.55  # largest ratio of the tiles' cells to those of the feature map
_SMALL_MAP_CELLS = 24 * 24  # larger tiles are faster on larger maps
_OUTPUTS_BFLOAT16, _TOLERANCE_BFLOAT16 = 2, 3e-2  # larger tiles lose more precision than bfloat16 has
_BFLOAT16 = "bf16"  # torch's name of a matmul precision


class Transforms(NamedTuple):
    """Matrices of one dimension for the weights (N x 3), an input tile (N x N) and an output tile (M x N)."""

    weights: torch.Tensor
    input: torch.Tensor
    output: torch.Tensor

    @classmethod
    def of_tile(cls, outputs: int) -> Transforms:
        """Return the matrices for `outputs` outputs a tile, in float64: values at N - 1 points and at infinity."""
        points = [Fraction(point) for point in _INTERPOLATION_POINTS[: outputs + TAP_COUNT - 2]]
        weights, inputs = [], []
        for point in points:
            others = [other for other in points if other != point]
            scale = prod(point - other for other in others)
            weights.append([point**power / scale for power in range(TAP_COUNT)])
            inputs.append([*_polynomial(others), Fraction(0)])
        weights.append([Fraction(0)] * (TAP_COUNT - 1) + [Fraction(1)])
        inputs.append(_polynomial(points))
        output = [[*(point**power for point in points), Fraction(power == outputs - 1)] for power in range(outputs)]
        matrices = ([[float(value) for value in row] for row in rows] for rows in (weights, inputs, output))
        return cls(*(torch.tensor(matrix, dtype=torch.float64) for matrix in matrices))

    def squared(self) -> Transforms:
        """Return the float32 matrices of both dimensions at once, rows before columns."""
        return Transforms(*(torch.kron(matrix, matrix).float() for matrix in self))


class _OneDnnMatmul:
    """Context in which torch multiplies float32 matrices with oneDNN instead of MKL, which is slow on AMD's processors.

    It allows torch to multiply them in bfloat16. torch then calls oneDNN, which still computes in float32 where the
    processor has no matrix units (AMX); where it has some, or no AVX-512, the context does nothing. Threads may enter
    it at the same time. Meanwhile oneDNN multiplies for all threads, and torch.get_float32_matmul_precision
    raises, as it does wherever this setting is used.
    """

    def __init__(self) -> None:
        self._lock, self._depth, self._former = Lock(), 0, ""
        # older versions have neither the capabilities nor the setting
        capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
        is_exact = capabilities.get("avx512_f") and not capabilities.get("amx_tile")
        self._settings: Any = getattr(torch.backends.mkldnn, "matmul", None) if is_exact else None

    def repeat(self, matrix: torch.Tensor, count: int) -> torch.Tensor:
        """Return `count` copies of the matrix, which oneDNN would otherwise make at every call."""
        repeated = matrix.expand(count, -1, -1)
        is_by_onednn = self._settings is not None or matrix.dtype == torch.bfloat16
        return repeated.contiguous() if is_by_onednn else repeated

    def __enter__(self) -> None:
        if self._settings is None:
            return
        with self._lock:
            if not self._depth:
                self._former, self._settings.fp32_precision = self._settings.fp32_precision, _BFLOAT16
            self._depth += 1

    def __exit__(self, *_: object) -> None:
        if self._settings is None:
            return
        with self._lock:
            self._depth -= 1
            if not self._depth and self._settings.fp32_precision == _BFLOAT16:  # no other thread has set it
                self._settings.fp32_precision = self._former


ONEDNN_MATMUL = _OneDnnMatmul()


class WinogradConv:
    """3 x 3 convolutions with stride 1 by tiles of M x M outputs; the transformed weights are (M + 2)^2 / 9 as many."""

    def __init__(self, outputs: int) -> None:
        self.name = f"Winograd {outputs}"
        bfloat16 = {torch.bfloat16: _TOLERANCE_BFLOAT16} if outputs == _OUTPUTS_BFLOAT16 else {}
        self.tolerances: Mapping[torch.dtype, float] = {torch.float32: WINOGRAD_TOLERANCE, **bfloat16}
        self.weight_ratio = ((outputs + TAP_COUNT - 1) / TAP_COUNT) ** 2
        self._outputs = outputs

    def supports(self, task: ConvTask) -> bool:
        geometry = task.geometry
        is_plain = geometry.strides == geometry.dilation == (1, 1) and geometry.groups == 1
        is_on_cpu = task.weights_FCKK.device.type == "cpu"
        if not (is_plain and is_on_cpu and task.size == (TAP_COUNT, TAP_COUNT)):
            return False
        h, w = task.x.h, task.x.w
        tiles = -(-h // self._outputs) * -(-w // self._outputs)
        is_filled = tiles * self._outputs**2 <= _MAX_WASTE * h * w
        is_useful = self._outputs > 2 or h * w <= _SMALL_MAP_CELLS or task.dtype == torch.bfloat16
        return is_filled and is_useful and min(task.filters, task.x.c) >= FEWEST_CHANNELS

    def build(self, task: ConvTask) -> ConvFunction:
        return _TiledConv(task, self._outputs)

    def build_plain(self, task: ConvTask) -> ConvFunction:
        """Return a function of torch's own operations only, for tracing."""
        return _TiledConv(task, self._outputs, packed=False)


class _TiledConv:
    """Convolution of a task in blocks of tiles.

    oneDNN packs weights for one number of tiles, and repacking can take a second. All blocks therefore have the same
    number: the last one overlaps the one before, and fewer tiles are padded once they are transformed. Without packed
    weights, blocks may be smaller. Buffers are allocated at each call, so that threads may share it.
    """

    def __init__(self, task: ConvTask, outputs: int, *, packed: bool = True) -> None:
        self._m, self._n = outputs, outputs + TAP_COUNT - 1
        self._filters, channels = task.filters, task.x.c
        self._activation, self._padding, self._dtype = task.activation, task.geometry.padding, task.dtype
        # elementwise activations are applied to a block while it is in the cache
        self._activate_block = task.activation.forward_inplace
        transform, input_matrix, output_matrix = Transforms.of_tile(outputs).squared()
        points = self._n**2
        down, across = self._padding
        rows, columns = (-(-(side + 2 * pad - 2) // outputs) for side, pad in ((task.x.h, down), (task.x.w, across)))
        self._grid = rows, columns
        tile_bytes = task.dtype.itemsize * points * (channels + self._filters)
        weights_bytes = task.dtype.itemsize * points * channels * self._filters
        limit = max(_CACHE_BYTES, _WEIGHTS_RATIO * weights_bytes) // tile_bytes
        self._block_images = -(-task.batch // -(-task.batch // max(1, limit // (rows * columns))))
        self._block_rows = _block_size(rows, max(1, limit // columns))
        self._block_tiles = self._block_images * self._block_rows * columns
        self._input, self._output = (
            ONEDNN_MATMUL.repeat(matrix.to(task.dtype), self._block_tiles) for matrix in (input_matrix, output_matrix)
        )
        tap_KKFC = task.weights_FCKK.detach().permute(2, 3, 0, 1).reshape(TAP_COUNT**2, -1)
        with ONEDNN_MATMUL:
            plain = torch.matmul(transform, tap_KKFC).view(points * self._filters, channels, 1, 1).to(task.dtype)
        biases = torch.zeros(points, self._filters, dtype=task.dtype)
        biases[_POINT_ONE * (self._n + 1)] = task.biases_F.detach()
        # each point is a group of a 1 x 1 convolution, whose columns are the tiles
        self._multiply: ConvFunction = partial(functional.conv2d, weight=plain, bias=biases.view(-1), groups=points)
        self._is_packed = packed
        if packed:
            pack = torch.ops.mkldnn._reorder_convolution_weight.default
            arguments = [0, 0], [1, 1], [1, 1], points
            weights = pack(plain, *arguments, [1, points * channels, self._block_tiles, 1])
            product: Any = torch.ops.mkldnn._convolution_pointwise.default
            self._multiply = lambda values: product(values, weights, biases.view(-1), *arguments, "none", [], "")

    def __deepcopy__(self, memo: dict[int, Any]) -> _TiledConv:
        """Return itself, as copies of networks share packed weights: nothing writes to them."""
        return self

    def __call__(self, x_BCHW: torch.Tensor) -> torch.Tensor:
        m, n, filters = self._m, self._n, self._filters
        batch, channels, h, w = map(int, x_BCHW.shape)  # traced sizes are tensors
        (down, across), x_BCHW = self._padding, x_BCHW.to(self._dtype)
        h_out, w_out = h + 2 * down - 2, w + 2 * across - 2
        rows, columns = -(-h_out // m), -(-w_out // m)
        missing = (0, 0, across, columns * m + 2 - w - across, down, rows * m + 2 - h - down)
        x_BHWC = functional.pad(x_BCHW.permute(0, 2, 3, 1), missing).contiguous()
        strides = x_BHWC.stride()
        steps = (strides[0], strides[1] * m, strides[2] * m, *strides[1:])
        tiles = x_BHWC.as_strided((batch, rows, columns, n, n, channels), steps)
        y_BHWF = x_BHWC.new_empty((batch, rows * m, columns * m, filters))
        outputs = y_BHWF.view(batch, rows, m, columns, m, filters).transpose(2, 3)
        with ONEDNN_MATMUL:
            if (rows, columns) == self._grid and batch >= self._block_images:
                for images in _blocks(batch, self._block_images):
                    for lines in _blocks(rows, self._block_rows):
                        block = outputs[images, lines]
                        block.copy_(self._convolve(tiles[images, lines].reshape(-1, n * n, channels)).view(block.shape))
            else:
                blocks = torch.split(tiles.reshape(-1, n * n, channels), self._block_tiles)
                outputs.copy_(torch.cat([self._convolve(block) for block in blocks]).view(outputs.shape))
        if (rows * m, columns * m) != (h_out, w_out):
            y_BHWF = y_BHWF[:, :h_out, :w_out].contiguous()
        y_BFHW = y_BHWF.permute(0, 3, 1, 2)
        return y_BFHW if self._activate_block is not None else self._activation(y_BFHW, inplace=True)

    def _convolve(self, x_TNC: torch.Tensor) -> torch.Tensor:
        """Return the outputs (T, M * M, F) of the tiles (T, N * N, C) of a block, or of fewer."""
        tiles, points, channels = map(int, x_TNC.shape)
        filled = self._block_tiles if self._is_packed else max(1, tiles)
        # in a program, oneDNN takes products of four dimensions, and of three only with an activation
        values = torch.matmul(self._input[None, :tiles], x_TNC[None]).view(1, tiles, 1, points * channels)
        if tiles < filled:
            values = functional.pad(values, (0, 0, 0, 0, 0, filled - tiles))
        products = self._multiply(values.permute(0, 3, 1, 2)).permute(0, 2, 3, 1).view(filled, points, -1)
        y_TMF = torch.bmm(self._output[:tiles], products[:tiles])
        return y_TMF if self._activate_block is None else self._activate_block(y_TMF)


def _block_size(count: int, limit: int) -> int:
    """Return the largest size from half the limit on with which blocks that cover range(count) overlap least."""
    sizes = range(-(-min(count, limit) // 2), min(count, limit) + 1)
    return min(sizes, key=lambda size: (-(-count // size) * size, -size))


def _blocks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of `size` that cover range(count); the last one may overlap the one before."""
    for start in range(0, count, size):
        start = min(start, count - size)
        yield slice(start, start + size)


def _polynomial(roots: Sequence[Fraction]) -> list[Fraction]:
    """Return the coefficients of the product of (x - root), lowest power first."""
    coefficients = [Fraction(1)]
    for root in roots:
        shifted = [Fraction(0), *coefficients]
        coefficients = [high - root * low for high, low in zip(shifted, [*coefficients, Fraction(0)], strict=True)]
    return coefficients
