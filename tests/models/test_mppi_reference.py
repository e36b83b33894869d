"""Our refinement against the plain reference: the same numbers from the same noise, in PyTorch and in ONNX Runtime."""

from pathlib import Path

import numpy as np
import pytest
import torch

from models.export import load_world_model
from models.networks import Sizes
from models.planner_graph import Refine
from models.world_model import WorldModel
from mppi_reference import ReferencePlanner
from robot_wm.backend import Model
from robot_wm.bundle import PlannerDefaults, load_bundle
from synthetic_windows import pendulum_contract

ZOO = sorted((Path(__file__).parents[2] / "models" / "zoo").glob("*/manifest.json"))
PLANNER = PlannerDefaults()
DISCOUNT = 0.99


def random_model(size="1M", heads=None):
    torch.manual_seed(0)
    sizes = size if heads is None else Sizes("heads", 32, 48, 32, heads, 2)
    model = WorldModel(pendulum_contract(), sizes).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.1 * torch.randn(parameter.shape)
    return model


def draws(model, planner, rounds=1, dtype=torch.float32):
    generator = torch.Generator().manual_seed(1)
    shape = (planner.horizon, model.action_size)
    noise = torch.randn(rounds, planner.samples, *shape, generator=generator).to(dtype)
    proposal_noise = torch.randn(planner.proposals, *shape, generator=generator).to(dtype)
    latent = model.prior(model.initial_latent[None], torch.full((1, model.action_size), 0.3, dtype=dtype))
    return latent, noise, proposal_noise


def plain(model, planner=PLANNER):
    """Bounds that clamp nothing but the range, no costs."""
    one = torch.ones(model.action_size, dtype=model.initial_latent.dtype)
    bounds = {"low": -one, "high": one, "rate": 4 * one, "jerk": 8 * one, "previous": 0 * one.expand(2, -1)}
    costs = {"action_cost": 0 * one, "change_cost": 0 * one, "disagreement_cost": 0 * one[0]}
    return bounds | costs | {"temperature": planner.temperature * one[0], "elites": planner.elites * one[0]}


@pytest.mark.parametrize("heads", [1, 2, 5])
def test_one_refinement_equals_the_reference_to_a_relative_1e_4(heads):
    model = random_model(heads=heads)
    latent, (noise,), proposal_noise = draws(model, PLANNER)
    reference = ReferencePlanner(model, PLANNER, DISCOUNT)
    proposals = reference.propose(latent, proposal_noise)
    start = torch.zeros_like(noise[0]), torch.full_like(noise[0], 2.0)
    mean, std, scores = reference.refine(latent, *start, noise, proposals)
    got = Refine(model, PLANNER, DISCOUNT)(latent, *start, noise, proposals, **plain(model))
    for ours, theirs in zip(got, (mean, std), strict=False):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[3], scores[0], rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(got[4], scores.mean(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("size", ["nano", "1M"])
def test_six_refinements_in_double_precision_are_the_reference_s(size):
    model = random_model(size).double()
    latent, noise, proposal_noise = draws(model, PLANNER, rounds=6, dtype=torch.float64)
    reference = ReferencePlanner(model, PLANNER, DISCOUNT)
    expected = reference.plan(latent, noise, proposal_noise)
    proposals = reference.propose(latent, proposal_noise)
    refine, mean = Refine(model, PLANNER, DISCOUNT), torch.zeros_like(noise[0, 0])
    std = torch.full_like(mean, 2.0)
    for samples in noise:
        mean, std, *_ = refine(latent, mean, std, samples, proposals, **plain(model))
    torch.testing.assert_close((mean, std), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("path", [p.parent for p in ZOO], ids=lambda p: p.name)
def test_a_released_bundle_refines_as_the_reference_does(path):
    bundle = load_bundle(path)
    model, planner = load_world_model(bundle).requires_grad_(False).eval(), bundle.manifest.planner
    latent, (noise,), proposal_noise = draws(model, planner)
    reference = ReferencePlanner(model, planner, bundle.manifest.discount)
    proposals = reference.propose(latent, proposal_noise)
    start = torch.zeros_like(noise[0]), torch.full_like(noise[0], 2.0)
    mean, std, scores = reference.refine(latent, *start, noise, proposals)
    inputs = {"latent": latent, "mean": start[0], "std": start[1], "noise": noise, "proposals": proposals}
    inputs |= plain(model, planner)
    got = Model(bundle, "cpu", graphs=("refine",)).refine(**{key: value.numpy() for key, value in inputs.items()})
    np.testing.assert_allclose(got.mean, mean, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got.std, std, rtol=1e-4, atol=1e-4)
    assert got.value == pytest.approx(float(scores[0]), rel=1e-4)
    assert got.elite_value == pytest.approx(float(scores.mean()), rel=1e-4)
