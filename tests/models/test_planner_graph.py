"""One MPPI step: samples inside limits, rate and jerk, scored by the model, and a proposal that moves to the elites."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bound_checks import ROUNDING, SEEDS, random_bounds, random_start, require_bounded
from models.networks import Sizes, expectation
from models.planner_graph import WORST, Propose, Refine, bounded
from models.world_model import WorldModel
from robot_wm.bundle import PlannerDefaults
from robot_wm.contract import parse_contract

PLANNER = PlannerDefaults(horizon=3, samples=200, proposals=8, elites=20, temperature=0.5, std_min=0.05, std_max=2.0)
ACTIONS = 2


def make_model(anchored=False, value_heads=3):
    position = {"name": "position", "topic": "j", "field": "position", "names": ["a", "b"], "anchored": anchored}
    action = {"names": ["a", "b"], "mode": "effort", "low": -1.0, "high": 1.0}
    contract = parse_contract({"name": "two", "model_hz": 50, "observations": [position], "action": action})
    torch.manual_seed(0)
    sizes = Sizes("tiny", latent=16, mlp=24, encoder=16, value_heads=value_heads, encoder_layers=1)
    model = WorldModel(contract, sizes).requires_grad_(False).eval()
    for parameter in model.parameters():
        parameter += 0.2 * torch.randn(parameter.shape)
    return model


def refine_inputs(seed=0, **changes):
    generator = torch.Generator().manual_seed(seed)
    shape = (PLANNER.horizon, ACTIONS)
    inputs = {
        "latent": torch.full((1, 16), 1 / 8),
        "mean": torch.zeros(shape),
        "std": torch.ones(shape),
        "noise": torch.randn(PLANNER.samples, *shape, generator=generator),
        "proposals": torch.rand(PLANNER.proposals, *shape, generator=generator) * 2 - 1,
        "low": -torch.ones(ACTIONS),
        "high": torch.ones(ACTIONS),
        "rate": torch.full((ACTIONS,), 4.0),
        "jerk": torch.full((ACTIONS,), 8.0),
        "previous": torch.zeros(2, ACTIONS),
        "temperature": torch.tensor(PLANNER.temperature),
        "action_cost": torch.zeros(ACTIONS),
        "change_cost": torch.zeros(ACTIONS),
        "disagreement_cost": torch.tensor(0.0),
        "elites": torch.tensor(float(PLANNER.elites)),
    }
    return inputs | changes


class KnownScore(Refine):
    """A refinement whose scores are given by a function of the samples instead of the model."""

    def __init__(self, function, model=None):
        super().__init__(model or make_model(), PLANNER, 0.99)
        self.function = function

    def score(self, latent, samples):
        return self.function(samples), torch.zeros(len(samples))


def tensors(bounds, previous):
    """Bounds and the actions before as inputs of the graph."""
    arrays = vars(bounds) | {"previous": previous}
    return {name: torch.from_numpy(np.array(value)) for name, value in arrays.items()}


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_sequences_obey_their_bounds_whatever_was_sampled_and_so_does_any_mean_of_them(seed, actions, feasible):
    rng = np.random.default_rng(seed)
    bounds = random_bounds(rng, actions)
    previous = random_start(rng, bounds, feasible)
    samples = rng.normal(0.0, 1.5, (50, 6, actions)).astype(np.float32)
    result = bounded(torch.from_numpy(samples), **tensors(bounds, previous)).numpy()
    require_bounded(result, previous, bounds, feasible)
    weights = rng.dirichlet(np.full(50, 0.2))[:, None, None]
    mean = (weights * result).sum(0).astype(np.float32).clip(bounds.low, bounds.high)
    require_bounded(mean[None], previous, bounds, feasible)
    np.testing.assert_allclose(bounds.apply(mean, previous), mean, atol=ROUNDING)


@settings(max_examples=100, deadline=None)
@given(SEEDS, st.integers(1, 3), st.booleans())
def test_the_graph_bounds_a_sequence_as_the_planner_does(seed, actions, feasible):
    rng = np.random.default_rng(seed)
    bounds = random_bounds(rng, actions)
    previous = random_start(rng, bounds, feasible)
    samples = rng.uniform(-2.0, 2.0, (3, 6, actions)).astype(np.float32)
    result = bounded(torch.from_numpy(samples), **tensors(bounds, previous)).numpy()
    for sample, got in zip(samples, result, strict=True):
        np.testing.assert_allclose(got, bounds.apply(sample, previous), atol=ROUNDING)


def test_sequences_inside_the_bounds_stay_as_they_are():
    samples = torch.rand(50, 4, ACTIONS) - 0.5
    bounds = torch.ones(ACTIONS)
    assert torch.equal(bounded(samples, -bounds, bounds, 2 * bounds, 8 * bounds, torch.zeros(2, ACTIONS)), samples)


def test_an_action_before_that_lies_outside_the_limits_leads_back_to_the_limit_at_once():
    high = torch.full((1,), 0.5)
    sequence = bounded(torch.ones(1, 2, 1), -high, high, high / 10, 16 * high, torch.ones(2, 1))
    assert sequence.flatten().tolist() == [0.5, 0.5]


def test_repeated_refinement_finds_the_best_sequence():
    target = torch.tensor([[0.5, -0.5], [-0.2, 0.1], [0.9, 0.0]])
    step = KnownScore(lambda samples: -100 * (samples - target).square().sum((1, 2)))
    inputs = refine_inputs()
    for seed in range(12):
        noise = torch.randn(inputs["noise"].shape, generator=torch.Generator().manual_seed(seed))
        mean, std, best, value, *_ = step(**inputs | {"noise": noise})
        inputs |= {"mean": mean, "std": std}
    assert (mean - target).abs().max() < 0.15
    assert value > -5
    assert (best - target).square().sum() < 0.05
    assert std.max() < 0.15


def test_mean_and_spread_are_the_softmax_weighted_ones_of_the_elites():
    step = KnownScore(lambda samples: samples.sum((1, 2)))
    inputs = refine_inputs()
    mean, std, best, value, elite_value, _ = (x.numpy() for x in step(**inputs))
    samples = np.concatenate([inputs["noise"].numpy(), inputs["proposals"].numpy()]).clip(-1, 1)
    scores = samples.sum((1, 2))
    elites = np.argsort(-scores, kind="stable")[: PLANNER.elites]
    weights = np.exp(PLANNER.temperature * (scores[elites] - scores.max()))
    weights = (weights / weights.sum())[:, None, None]
    expected = (weights * samples[elites]).sum(0)
    np.testing.assert_allclose(mean, expected, atol=1e-5)
    spread = np.sqrt((weights * (samples[elites] - expected) ** 2).sum(0)).clip(PLANNER.std_min, PLANNER.std_max)
    np.testing.assert_allclose(std, spread, atol=1e-5)
    np.testing.assert_array_equal(best, samples[elites[0]])
    assert value == pytest.approx(scores.max())
    assert elite_value == pytest.approx(scores[elites].mean(), rel=1e-5)


@settings(max_examples=40, deadline=None)
@given(SEEDS, st.booleans())
def test_the_new_mean_and_the_best_sequence_obey_their_bounds(seed, feasible):
    model = test_the_new_mean_and_the_best_sequence_obey_their_bounds.model
    rng = np.random.default_rng(seed)
    bounds = random_bounds(rng, ACTIONS)
    previous = random_start(rng, bounds, feasible)
    inputs = refine_inputs(seed, std=torch.full((3, ACTIONS), 2.0), **tensors(bounds, previous))
    mean, std, best, *_ = Refine(model, PLANNER, 0.99)(**inputs)
    require_bounded(torch.stack([mean, best]).numpy(), previous, bounds, feasible)
    assert std.min() >= PLANNER.std_min
    assert std.max() <= PLANNER.std_max


test_the_new_mean_and_the_best_sequence_obey_their_bounds.model = make_model()


def test_a_proposal_wins_where_it_is_best():
    step = KnownScore(lambda samples: -(samples - 0.77).abs().sum((1, 2)))
    proposals = torch.full((PLANNER.proposals, PLANNER.horizon, ACTIONS), 0.77)
    assert torch.equal(step(**refine_inputs(proposals=proposals))[2], proposals[0])


def test_rollouts_that_are_not_finite_are_never_elites():
    def score(samples):
        value = samples.sum((1, 2))
        return torch.where(value > 1, torch.nan, torch.where(value > 0.5, torch.inf, value))

    mean, std, best, value, elite_value, disagreement = KnownScore(score)(**refine_inputs())
    assert best.sum() <= 0.5
    assert mean.isfinite().all()
    assert std.isfinite().all()
    assert 0 < value <= 0.5
    assert elite_value > -100
    assert disagreement == 0


def test_a_model_that_is_nowhere_finite_says_so_in_its_value():
    mean, _, _, value, *_ = KnownScore(lambda samples: samples.sum((1, 2)) * torch.nan)(**refine_inputs())
    assert value.isnan()
    assert mean.isfinite().all()


@pytest.mark.parametrize("anchored", [False, True])
@pytest.mark.parametrize("value_heads", [1, 3])
def test_a_score_is_what_the_verbs_say_step_by_step(anchored, value_heads):
    model = make_model(anchored, value_heads)
    latent = model.prior(model.initial_latent[None], torch.full((1, ACTIONS), 0.3))
    samples = torch.rand(7, PLANNER.horizon, ACTIONS) * 2 - 1
    z, expected = latent.expand(7, -1), torch.zeros(7)
    for t in range(PLANNER.horizon):
        expected = expected + 0.9**t * expectation(model.reward(z, samples[:, t]))
        z = model.prior(z, samples[:, t])
    values = expectation(model.values(z, model.policy(z).mean))
    expected = expected + 0.9**PLANNER.horizon * values[:2].mean(0)
    step = Refine(model, PLANNER, 0.9)
    score, disagreement = step.score(latent, samples)
    torch.testing.assert_close(score, expected, rtol=1e-4, atol=1e-5)
    spread = 0.9**PLANNER.horizon * values[:2].std(0, unbiased=False)
    torch.testing.assert_close(disagreement, spread, rtol=1e-4, atol=1e-5)


def test_a_predicted_end_of_the_episode_cuts_what_comes_after_it():
    model = make_model()
    samples = torch.rand(7, PLANNER.horizon, ACTIONS) * 2 - 1
    latent = torch.full((1, 16), 1 / 8)
    first = expectation(model.reward(latent.expand(7, -1), samples[:, 0]))
    model.terminated_head[-1].bias += 50.0
    ended = Refine(model, PLANNER, 0.9, terminations=True).score(latent, samples)[0]
    torch.testing.assert_close(ended, first, rtol=1e-4, atol=1e-5)
    assert not torch.allclose(Refine(model, PLANNER, 0.9).score(latent, samples)[0], first, rtol=1e-2)


def test_costs_are_subtracted_from_the_score():
    step, inputs = Refine(make_model(), PLANNER, 0.9), refine_inputs()
    samples = torch.rand(7, PLANNER.horizon, ACTIONS) * 2 - 1
    previous, weights = torch.tensor([[9.0, 9.0], [0.5, -0.5]]), torch.tensor([0.3, 0.7])
    free, spread = step.evaluate(inputs["latent"], samples, previous, 0 * weights, 0 * weights, torch.tensor(0.0))
    torch.testing.assert_close((free, spread), step.score(inputs["latent"], samples))
    change = torch.cat([previous[1].expand(7, 1, -1), samples], dim=1).diff(dim=1)
    expected = free - (weights * samples.square()).sum((1, 2)) - 2.0 * spread - (change.square() * weights).sum((1, 2))
    got, _ = step.evaluate(inputs["latent"], samples, previous, weights, weights, torch.tensor(2.0))
    torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)
    assert spread.min() > 0


def test_a_cost_function_reads_the_observation_at_the_end_of_each_step():
    model = make_model()
    latent = torch.full((1, 16), 1 / 8)
    samples = torch.rand(7, PLANNER.horizon, ACTIONS) * 2 - 1

    class Cost(torch.nn.Module):
        def forward(self, z, action):
            return model.readout(z)[:, 0] * action[:, 1]

    z, expected = latent.expand(7, -1), torch.zeros(7)
    for t in range(PLANNER.horizon):
        z = model.prior(z, samples[:, t])
        expected += 0.9**t * model.readout(z)[:, 0] * samples[:, t, 1]
    free, _ = Refine(model, PLANNER, 0.9).score(latent, samples)
    costly, _ = Refine(model, PLANNER, 0.9, cost=Cost()).score(latent, samples)
    torch.testing.assert_close(free - costly, expected, rtol=1e-3, atol=1e-4)


def test_weights_are_copied_so_that_training_does_not_disturb_a_step():
    model = make_model()
    step, inputs = Refine(model, PLANNER, 0.99), refine_inputs()
    before = step(**inputs)
    for parameter in model.parameters():
        parameter += 1.0
    assert all(torch.equal(a, b) for a, b in zip(before, step(**inputs), strict=True))


def test_proposals_follow_the_policy_through_the_prior():
    model = make_model()
    latent = torch.full((1, 16), 1 / 8)
    noise = torch.randn(5, 3, ACTIONS)
    noise[0] = 0.0
    proposals = Propose(model, 3)(latent, noise)
    z = latent.expand(5, -1)
    for t in range(3):
        sample = model.policy(z, noise[:, t])
        torch.testing.assert_close(proposals[:, t], sample.action)
        torch.testing.assert_close(proposals[0, t], sample.mean[0])
        z = model.prior(z, sample.action)
    assert proposals.abs().max() <= 1.0
    assert WORST < -1e6
