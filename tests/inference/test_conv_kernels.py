"""Every kernel computes what the plain layer computes, on a grid of geometries, sizes and values."""

from __future__ import annotations

import copy
import math
from concurrent.futures import ThreadPoolExecutor
from itertools import product

import pytest
import torch
from torch.nn import functional

from darkpy.inference.conv_kernels import (
    DEFAULT_KERNELS,
    WINOGRAD_TOLERANCE,
    ConvFunction,
    ConvGeometry,
    ConvKernel,
    ConvTask,
    NnpackConv,
    allclose,
    build_checked,
)
from darkpy.inference.kernel_selection import MEASURED_KERNELS
from darkpy.inference.winograd import ONEDNN_MATMUL, Transforms, WinogradConv, _block_size
from darkpy.ops.activations import ACTIVATIONS_BY_NAME
from darkpy.shapes import Shape

KERNELS = [*DEFAULT_KERNELS, *MEASURED_KERNELS]
WINOGRADS = [kernel for kernel in MEASURED_KERNELS if isinstance(kernel, WinogradConv)]
SIDES = [(1, 1), (1, 7), (4, 4), (5, 9), (13, 12), (31, 6)]
ONE = (1, 1)
HAS_BF16 = torch.ops.mkldnn._is_mkldnn_bf16_supported()


def make_task(
    x: Shape,
    filters: int,
    size: int = 3,
    stride: int = 1,
    padding: int = 1,
    dilation: int = 1,
    groups: int = 1,
    activation: str = "leaky",
    batch: int = 1,
    dtype: torch.dtype = torch.float32,
) -> ConvTask:
    generator = torch.Generator().manual_seed(0)
    deviation = (x.c // groups * size * size) ** -0.5
    weights = torch.randn(filters, x.c // groups, size, size, generator=generator) * deviation
    geometry = ConvGeometry((stride, stride), (padding, padding), (dilation, dilation), groups)
    biases = torch.randn(filters, generator=generator)
    return ConvTask(weights, biases, geometry, ACTIVATIONS_BY_NAME[activation], x, batch, dtype)


def layer_of(task: ConvTask) -> ConvFunction:
    geometry = task.geometry

    def layer(x: torch.Tensor) -> torch.Tensor:
        y = functional.conv2d(
            x.float(),
            task.weights_FCKK,
            task.biases_F,
            geometry.strides,
            geometry.padding,
            geometry.dilation,
            geometry.groups,
        )
        return task.activation(y)

    return layer


def random_images(x: Shape, batch: int, scale: float = 1, shift: float = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    return (torch.randn((batch, *x), generator=generator) * scale + shift).contiguous(memory_format=torch.channels_last)


def check(kernel: ConvKernel, task: ConvTask, x: torch.Tensor) -> None:
    assert allclose(kernel.build(task), layer_of(task), x, kernel.tolerances[task.dtype])


TASKS = [
    make_task(Shape(17, 13, 12), 5, padding=0),
    make_task(Shape(16, 9, 11), 24, activation="mish"),
    make_task(Shape(20, 9, 11), 18, activation="normalize_channels"),
    make_task(Shape(6, 9, 11), 7, size=1, padding=0),
    make_task(Shape(6, 1, 1), 1, size=1, padding=0, activation="linear"),
    make_task(Shape(6, 5, 5), 8, size=1, padding=0, activation="plse", batch=3),
    make_task(Shape(6, 9, 11), 8, size=1, stride=2, padding=0),
    make_task(Shape(6, 9, 11), 8, size=1, padding=1),
    make_task(Shape(6, 9, 11), 8, stride=2),
    make_task(Shape(6, 9, 11), 8, padding=2, dilation=2),
    make_task(Shape(6, 9, 11), 8, groups=2),
    make_task(Shape(8, 9, 11), 8, groups=8),
    make_task(Shape(6, 9, 11), 8, size=5, padding=2),
    make_task(Shape(6, 9, 11), 8, dtype=torch.bfloat16),
]


@pytest.mark.parametrize("task", TASKS, ids=lambda task: task.key)
def test_every_kernel_that_supports_a_geometry_agrees_with_the_layer(task: ConvTask) -> None:
    if task.dtype == torch.bfloat16 and not HAS_BF16:
        pytest.skip("oneDNN has no bfloat16 on this processor")
    kernels = [kernel for kernel in KERNELS if task.dtype in kernel.tolerances and kernel.supports(task)]
    assert kernels
    for kernel in kernels:
        for batch in (1, 3):
            check(kernel, task, random_images(task.x, batch))


@pytest.mark.parametrize("kernel", WINOGRADS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("sides", SIDES, ids=str)
def test_winograd_agrees_with_the_layer_for_any_size_batch_and_channels(
    kernel: WinogradConv, sides: tuple[int, int]
) -> None:
    dtypes = [torch.float32]
    if HAS_BF16 and kernel.name == "Winograd 2":
        dtypes.append(torch.bfloat16)  # larger tiles lose too many digits
    for channels, filters, batch, dtype in product((3, 19, 32), (1, 16, 33), (1, 3), dtypes):
        task = make_task(Shape(channels, *sides), filters, batch=batch, dtype=dtype)
        check(kernel, task, random_images(task.x, batch))


@pytest.mark.parametrize("kernel", WINOGRADS, ids=lambda kernel: kernel.name)
def test_winograd_works_for_other_sizes_and_batches_than_it_was_built_for(kernel: WinogradConv) -> None:
    task = make_task(Shape(16, 12, 20), 24, batch=2)
    function = kernel.build(task)
    for batch, h, w in ((1, 12, 20), (2, 12, 20), (5, 12, 20), (1, 30, 9), (7, 3, 3), (0, 12, 20), (0, 5, 5)):
        x = random_images(Shape(16, h, w), batch)
        assert function(x).shape == (batch, 24, h, w)
        assert not batch or allclose(function, layer_of(task), x, WINOGRAD_TOLERANCE)


def test_winograd_agrees_where_blocks_of_rows_or_of_images_overlap(monkeypatch: pytest.MonkeyPatch) -> None:
    for limit in (1, 50_000, 200_000):
        monkeypatch.setattr("darkpy.inference.winograd._CACHE_BYTES", limit)
        monkeypatch.setattr("darkpy.inference.winograd._WEIGHTS_RATIO", 0)
        for batch in (1, 3, 4):
            task = make_task(Shape(16, 21, 10), 17, batch=batch)
            check(WinogradConv(4), task, random_images(task.x, batch))
            check(WinogradConv(4), task, random_images(task.x, batch + 1))


def test_nnpack_is_left_out_where_torch_would_keep_a_large_workspace() -> None:
    kernel = NnpackConv()
    assert kernel.supports(make_task(Shape(64, 52, 52), 128)) == torch._nnpack_available()
    assert not kernel.supports(make_task(Shape(64, 52, 52), 128, batch=2))
    assert not kernel.supports(make_task(Shape(256, 13, 13), 512))


def test_blocks_overlap_least() -> None:
    cases = {(10, 10): 10, (10, 99): 10, (19, 7): 5, (38, 7): 5, (13, 11): 7, (1, 1): 1}
    assert {case: _block_size(*case) for case in cases} == cases


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize(("scale", "shift"), [(1, -5), (1, 100), (1e25, 0), (1e-25, 0)], ids=str)
def test_negative_shifted_huge_and_tiny_values_agree(kernel: ConvKernel, scale: float, shift: float) -> None:
    for task in (make_task(Shape(32, 14, 14), 32), make_task(Shape(32, 14, 14), 32, size=1, padding=0)):
        if torch.float32 in kernel.tolerances and kernel.supports(task):
            check(kernel, task, random_images(task.x, 1, scale, shift))


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf], ids=str)
def test_nonfinite_input_is_passed_on(kernel: ConvKernel, value: float) -> None:
    for task in (make_task(Shape(32, 14, 14), 32), make_task(Shape(32, 14, 14), 32, size=1, padding=0)):
        if torch.float32 in kernel.tolerances and kernel.supports(task):
            x = random_images(task.x, 1)
            x[0, 3, 7, 5] = value
            expected, actual = layer_of(task)(x), kernel.build(task)(x)
            assert not (~expected.isfinite() & actual.isfinite()).any()
            assert actual[:, :, 0].isfinite().all()  # far from it


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_contiguous_input_gives_the_same_as_channels_last(kernel: ConvKernel) -> None:
    for task in (make_task(Shape(32, 14, 9), 32), make_task(Shape(32, 14, 9), 32, size=1, padding=0)):
        if torch.float32 in kernel.tolerances and kernel.supports(task):
            check(kernel, task, random_images(task.x, 2).contiguous())


@pytest.mark.parametrize("kernel", KERNELS, ids=lambda kernel: kernel.name)
def test_threads_may_share_a_kernel(kernel: ConvKernel) -> None:
    for task in (make_task(Shape(32, 14, 9), 32), make_task(Shape(32, 14, 9), 32, size=1, padding=0)):
        if torch.float32 in kernel.tolerances and kernel.supports(task):
            function, x = kernel.build(task), random_images(task.x, 8)
            expected = list(map(function, torch.split(x, 1)))
            with ThreadPoolExecutor(4) as pool:
                actual = list(pool.map(function, torch.split(x, 1)))
            torch.testing.assert_close(actual, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kernel", MEASURED_KERNELS, ids=lambda kernel: kernel.name)
def test_copies_of_a_network_share_packed_weights(kernel: ConvKernel) -> None:
    for task in (make_task(Shape(32, 14, 14), 32), make_task(Shape(32, 14, 14), 32, size=1, padding=0)):
        if kernel.supports(task):
            function = kernel.build(task)
            assert copy.deepcopy(function) is function


def test_winograd_leaves_the_precision_of_matrix_products_as_it_was() -> None:
    if (settings := getattr(torch.backends.mkldnn, "matmul", None)) is None:
        pytest.skip("this version of torch has no such setting")
    task = make_task(Shape(16, 12, 12), 16)
    function, x = WinogradConv(4).build(task), random_images(task.x, 1)
    former = settings.fp32_precision
    try:
        for precision in ("ieee", "none"):
            settings.fp32_precision = precision
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(function, [x] * 32))
            with pytest.raises(RuntimeError):
                function(random_images(Shape(17, 12, 12), 1))
            assert settings.fp32_precision == precision
        with ONEDNN_MATMUL:
            settings.fp32_precision = "ieee"  # of the program that detects in another thread
        assert settings.fp32_precision == "ieee"
    finally:
        settings.fp32_precision = former


@pytest.mark.parametrize("outputs", [2, 4, 6])
def test_winograd_matrices_compute_a_correlation_exactly(outputs: int) -> None:
    weights, inputs, output = Transforms.of_tile(outputs)
    taps, cells = torch.tensor([1.0, -2, 3]).double(), torch.arange(1.0, outputs + 3).double() ** 2
    expected = functional.conv1d(cells[None, None], taps[None, None])[0, 0]
    torch.testing.assert_close(output @ ((weights @ taps) * (inputs @ cells)), expected)


def test_winograd_of_many_channels_stays_below_its_tolerance() -> None:
    for kernel in WINOGRADS:
        task = make_task(Shape(1024, 13, 13), 64)
        x = random_images(task.x, 1, shift=0.5)
        expected = layer_of(task)(x).abs().max()
        error = (kernel.build(task)(x) - layer_of(task)(x)).abs().max()
        assert error <= WINOGRAD_TOLERANCE * expected


def test_kernel_with_wrong_output_or_without_its_operation_is_not_built(monkeypatch: pytest.MonkeyPatch) -> None:
    task = make_task(Shape(16, 12, 12), 16)
    assert build_checked(WinogradConv(4), task, layer_of(task)) is not None
    assert build_checked(WinogradConv(4), task, lambda x: layer_of(task)(x) * 1.001) is None
    monkeypatch.setattr(torch.ops.mkldnn, "_reorder_convolution_weight", None)
    assert build_checked(WinogradConv(4), task, layer_of(task)) is None
