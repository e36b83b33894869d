import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from models.networks import (
    BINS,
    SIZES,
    Ensemble,
    NormedLinear,
    ObservationFeatures,
    cross_entropy,
    expectation,
    simnorm,
    sizes_named,
    symexp,
    symlog,
    two_hot,
)
from robot_wm.errors import ContractError
from synthetic_windows import pendulum_contract


@given(st.floats(-20000, 20000, width=32))
def test_a_two_hot_target_stands_for_its_scalar(x: float) -> None:
    target = two_hot(torch.tensor([x]))
    assert target.sum() == pytest.approx(1.0, abs=1e-4)
    assert (target > 1e-6).sum() <= 2
    mean_bin = (target * torch.linspace(-10, 10, BINS)).sum()
    assert mean_bin == pytest.approx(float(symlog(torch.tensor(x))), abs=1e-4)


def test_symexp_inverts_symlog() -> None:
    x = torch.tensor([-300.0, -1.0, 0.0, 0.01, 5.0, 2000.0])
    assert torch.allclose(symexp(symlog(x)), x, rtol=1e-5)


def test_cross_entropy_is_least_where_the_expectation_is_the_scalar() -> None:
    values = torch.tensor([-2.0, 0.3, 40.0])
    logits = (two_hot(values) + 1e-7).log().requires_grad_()
    cross_entropy(logits, values).sum().backward()
    assert logits.grad is not None
    assert logits.grad.abs().max() < 1e-4
    assert torch.allclose(expectation(logits), values, rtol=1e-3, atol=1e-3)


def test_zero_logits_stand_for_zero() -> None:
    assert expectation(torch.zeros(2, BINS)).abs().max() < 1e-5


def test_simnorm_makes_simplices_of_eight() -> None:
    z = simnorm(torch.randn(5, 64))
    assert torch.allclose(z.reshape(5, 8, 8).sum(-1), torch.ones(5, 8))
    assert (z >= 0).all()


def test_an_ensemble_is_so_many_separate_networks() -> None:
    torch.manual_seed(0)
    stack = Ensemble(3, 5, 16, BINS)
    for parameter in stack.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    x = torch.randn(4, 2, 5)
    logits = stack(x)
    assert logits.shape == (3, 4, 2, BINS)
    for q in range(3):
        h = x
        for i in range(2):
            h = h @ stack.weights[i][q] + stack.biases[i][q]
            h = torch.nn.functional.layer_norm(h, (16,), stack.gains[i][q, 0], stack.shifts[i][q, 0])
            h = torch.nn.functional.mish(h)
        assert torch.allclose(logits[q], h @ stack.weights[2][q] + stack.biases[2][q], atol=1e-5)


def test_a_frozen_ensemble_passes_the_gradient_on_and_keeps_none() -> None:
    stack = Ensemble(3, 5, 16, BINS)
    for parameter in stack.parameters():
        parameter.data = 0.3 * torch.randn_like(parameter)
    x = torch.randn(4, 5, requires_grad=True)
    picked = stack(x, frozen=True, heads=torch.tensor([2, 0]))
    assert torch.allclose(picked, stack(x)[[2, 0]], atol=1e-6)
    picked.square().sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(p.grad is None for p in stack.parameters())


def test_weights_start_as_in_the_reference() -> None:
    layer = NormedLinear(200, 300)
    assert float(layer.linear.weight.detach().std()) == pytest.approx(0.02, rel=0.05)
    assert not layer.linear.bias.any()


@given(st.floats(-50, 50, width=32), st.floats(-30, 30, width=32))
def test_features_of_an_observation_lead_back_to_it(angle: float, speed: float) -> None:
    features = ObservationFeatures(pendulum_contract())
    encoded = features(torch.tensor([angle, speed]))
    assert encoded.tolist() == pytest.approx([math.cos(angle), math.sin(angle), speed / 4.0], abs=1e-5)
    back = features.inverse(encoded).tolist()
    assert math.cos(back[0] - angle) == pytest.approx(1.0, abs=1e-5)
    assert back[1] == pytest.approx(speed, abs=1e-4)


def test_known_sizes_are_named_in_the_error() -> None:
    assert sizes_named("nano") is SIZES["nano"]
    with pytest.raises(ContractError, match="nano, 1M, 5M, 19M"):
        sizes_named("huge")
