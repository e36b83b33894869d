"""The kernels against plain torch: the same numbers, forwards and backwards."""

import logging
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor

from models import kernel_build
from models.fused import kernels, usable
from models.networks import BINS, Ensemble, NormedLinear, chain, cross_entropy, expectation, linear

needs_kernels = pytest.mark.skipif(kernel_build.library() is None, reason="no C compiler on this machine")


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def both(function, *inputs: Tensor) -> None:  # type: ignore[no-untyped-def]
    """Compare outputs and the gradients of inputs and parameters with and without kernels."""
    results = []
    for wanted in (False, True):
        parameters = [p for x in inputs if isinstance(x, torch.nn.Module) for p in x.parameters()]
        leaves = [x for x in inputs if isinstance(x, Tensor) and x.requires_grad] + parameters
        for leaf in leaves:
            leaf.grad = None
        with kernels(wanted) as used:
            assert used == wanted
            out = function()
            weight = torch.linspace(-1, 1, out.numel()).reshape(out.shape)
            (out * weight).sum().backward()
        results.append([out.detach(), *(leaf.grad for leaf in leaves)])
    for plain, fast in zip(*results, strict=True):
        assert torch.allclose(plain, fast, rtol=2e-4, atol=2e-5 * float(plain.abs().max()) + 1e-7)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize(("rows", "width"), [(1, 8), (7, 40), (300, 128)])
def test_normed_layers(threads: int, rows: int, width: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    modules = torch.nn.ModuleList([NormedLinear(5, width), NormedLinear(width, 16, simplex=True), linear(16, 3)])
    for p in modules.parameters():
        p.data += 0.5 * torch.randn_like(p)
    x = (3 * torch.randn(2, rows, 5)).requires_grad_()
    both(lambda: chain(x, *modules), x, modules)
    both(lambda: chain(x.detach(), *modules[:2]), modules[:2])


@needs_kernels
def test_ensembles_with_dropout() -> None:
    torch.manual_seed(0)
    stack = Ensemble(3, 5, 24, BINS)
    for p in stack.parameters():
        p.data += 0.5 * torch.randn_like(p)
    x = torch.randn(4, 10, 5, requires_grad=True)
    dropout = (torch.rand(3, 40, 24) > 0.2).float() * 1.25
    both(lambda: stack(x, dropout), x, stack)
    both(lambda: stack(x, frozen=True, heads=torch.tensor([2, 1])), x)


@needs_kernels
@pytest.mark.parametrize("threads", [1, 2])
def test_two_hot_losses_and_values(threads: int) -> None:
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    logits = (4 * torch.randn(2, 200, BINS)).requires_grad_()
    values = torch.cat([torch.tensor([0.0, 1e9, -1e9, 22025.4]), 30 * torch.randn(196)])
    both(lambda: cross_entropy(logits, values), logits)
    both(lambda: expectation(0.1 * logits), logits)


@needs_kernels
def test_mish_is_right_far_from_zero() -> None:
    layer = NormedLinear(8, 8)
    layer.norm.bias.data = torch.tensor([-90.0, -30.0, -5.0, -1e-3, 1e-3, 5.0, 30.0, 90.0])
    x = torch.randn(3, 8, requires_grad=True)
    both(lambda: chain(x, layer), x, layer)


@needs_kernels
@pytest.mark.parametrize("simplex", [False, True])
def test_what_is_not_a_number_stays_so(simplex: bool) -> None:
    layer = NormedLinear(4, 8, simplex)
    x = torch.randn(3, 4)
    x[1, 2] = float("nan")
    with kernels(), torch.no_grad():
        out = chain(x, layer)
        logits = torch.zeros(2, BINS)
        logits[1, 7] = float("nan")
        assert expectation(logits).isnan().tolist() == [False, True]
        assert cross_entropy(logits, torch.zeros(2)).isnan().tolist() == [False, True]
        assert cross_entropy(torch.zeros(2, BINS), torch.tensor([1.0, float("nan")])).isnan().tolist() == [False, True]
    assert out.isnan().all(-1).tolist() == [False, True, False]


def test_outside_the_block_nothing_is_fused() -> None:
    with kernels():
        pass
    assert not usable(torch.zeros(1))


def test_without_a_compiler_training_goes_on_and_says_so(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path
) -> None:
    monkeypatch.setenv("CC", "false")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kernel_build.library.cache_clear()
    try:
        with caplog.at_level(logging.WARNING):
            assert kernel_build.library() is None
        assert "without fused kernels" in caplog.text
        with kernels() as used:
            assert not used
            assert not usable(torch.zeros(1))
    finally:
        kernel_build.library.cache_clear()
