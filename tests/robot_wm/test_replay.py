"""Replay: starts, restricted measurements, targets at the rows' own stamps, groups."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from conftest import slider_contract
from robot_wm import replay as through
from robot_wm.bags.align import Episode
from robot_wm.bags.series import Series
from robot_wm.errors import BagError, ContractError, RunError
from robot_wm.replay_commands import parse_horizons

STEP = 20_000_000
MS = 1_000_000


class Ballistic:
    """Exact for a slider of mass 1 under one constant force: latent (position, velocity), replaced by what is measured."""

    initial_latent = np.zeros(2, np.float32)
    bundle_id = "ballistic"

    def __init__(self, contract, force=0.0):
        self.bundle = SimpleNamespace(contract=contract)
        self.scale = contract.action.high[0]
        self.force = force

    def encode(self, observation, mask, age):
        position, speed, since = observation[:, :1], observation[:, 1:], age[:, :1] * STEP * 1e-9
        moved = position + speed * since + 0.5 * self.force * since**2
        return np.concatenate([moved, speed + self.force * since], 1)

    def posterior(self, prior_latent, embedding, mask):
        return np.where(mask.max(1, keepdims=True) > 0, embedding, prior_latent)

    def prior(self, latent, action):
        dt = STEP * 1e-9
        speed = latent[:, 1:] + self.scale * action * dt
        return np.concatenate([latent[:, :1] + 0.5 * (latent[:, 1:] + speed) * dt, speed], 1)

    def readout(self, latent):
        return latent


def series(stamps, values):
    rows = np.arange(len(stamps))
    return Series("joint_states", np.asarray(stamps), np.asarray(stamps), np.asarray(values, float), rows)


def test_a_start_lies_at_the_row_nearest_each_tenth_with_room_for_the_longest_horizon():
    stamps = np.arange(0, 1000, 30) * MS

    first = through.start_rows(stamps, 100 * MS, 200 * MS)

    assert (stamps[first] // MS).tolist() == [90, 210, 300, 390, 510, 600, 690]


def test_the_nearest_row_is_found_at_and_beyond_both_ends():
    stamps = np.array([0, 10, 20])

    assert through.nearest(stamps, np.array([-5, 4, 6, 15, 99])).tolist() == [0, 0, 1, 1, 2]


def test_a_cubic_is_interpolated_exactly_between_instants():
    t = np.arange(9.0)
    values = np.stack([t**3 - 2 * t, 5 - t**2], -1)[None].repeat(4, 0)

    got = through.between(values, np.array([0.3, 1.0, 4.75, 7.9]))

    at = np.array([0.3, 1.0, 4.75, 7.9])
    np.testing.assert_allclose(got, np.stack([at**3 - 2 * at, 5 - at**2], -1), atol=1e-9)


def test_angles_are_compared_the_short_way_round():
    observation = slider_contract(
        observations=[
            {"name": "p", "topic": "j", "field": "position", "names": ["a", "b"], "encoding": ["angle", "linear"]}
        ]
    ).observations[0]

    got = through.difference(observation, np.array([3.1, 3.1]), np.array([-3.1, -3.1]))

    np.testing.assert_allclose(got, [6.2 - 2 * np.pi, 6.2])


def test_a_start_is_corrected_by_measurements_up_to_it_alone(contract):
    """The row 2 ms after the start is nearer to the instant, and must not be used."""
    stamps = [76 * MS, 81 * MS]
    rows = {"position": series(stamps, [[1.0], [2.0]]), "velocity": series(stamps, [[0.0], [0.0]])}
    episode = SimpleNamespace(start=0)
    filtered = through.Filtered(episode, np.zeros((9, 2), np.float32), np.zeros((9, 2), np.float32))

    early = through.start_latents(Ballistic(contract), filtered, rows, np.array([79 * MS]), np.array([4]))
    late = through.start_latents(Ballistic(contract), filtered, rows, np.array([81 * MS]), np.array([4]))

    assert (early[0, 0], late[0, 0]) == (1.0, 2.0)


def test_without_a_measurement_up_to_the_start_the_prediction_stays(contract):
    rows = {name: series([81 * MS], [[2.0]]) for name in ("position", "velocity")}
    filtered = through.Filtered(SimpleNamespace(start=0), np.full((9, 2), 7.0, np.float32), np.zeros((9, 2)))

    latent = through.start_latents(Ballistic(contract), filtered, rows, np.array([79 * MS]), np.array([4]))

    assert latent.tolist() == [[7.0, 7.0]]


@pytest.mark.parametrize("period_ms", [3, 7, 29])
def test_an_exact_model_predicts_irregular_rows_at_their_own_stamps(contract, monkeypatch, period_ms):
    rng = np.random.default_rng(period_ms)
    stamps = np.cumsum(rng.integers(period_ms - 2, period_ms + 3, size=3000 // period_ms)) * MS
    stamps -= stamps[0]
    seconds, force = stamps * 1e-9, 3.0
    position, speed = 0.5 * force * seconds**2, force * seconds
    rows = {"position": series(stamps, position[:, None]), "velocity": series(stamps, speed[:, None])}
    serve(monkeypatch, [("kind_a_01", rows)], force / contract.action.high[0])

    figures = through.replay(["bag"], Ballistic(contract, force))

    near, far = figures["rmse"]["100"], figures["rmse"]["200"]
    assert near["model"] < 1e-4 < 0.02 < near["persistence"] < far["persistence"]
    assert abs(near["horizon_ms_mean"] - 100) <= near["horizon_ms_max"] - near["horizon_ms_min"] <= period_ms + 2
    assert list(near["groups"]) == ["kind_a"]
    assert figures["innovation"]["velocity"] < 1e-4


def test_groups_are_pooled_over_their_bags(contract, monkeypatch):
    stamps = np.arange(0, 1000, 10) * MS
    moving = {name: series(stamps, np.ones((100, 1)) * stamps[:, None] * 1e-9) for name in ("position", "velocity")}
    still = {name: series(stamps, np.zeros((100, 1))) for name in ("position", "velocity")}
    serve(monkeypatch, [("a_01", still), ("a_02", moving), ("b_01", moving)], 0.0)

    groups = through.replay(["1", "2", "3"], Ballistic(contract))["rmse"]["100"]["groups"]

    assert groups["a"]["starts"] == 2 * groups["b"]["starts"]
    assert groups["a"]["persistence"] == pytest.approx(groups["b"]["persistence"] / 2**0.5)


def test_bad_input_is_one_sentence(contract, monkeypatch):
    model = Ballistic(contract)
    with pytest.raises(BagError, match="no bags given"):
        through.replay([], model)
    with pytest.raises(ContractError, match="at least one model step, 20 ms"):
        through.replay(["bag"], model, through.Protocol(horizons_s=(0.01,)))
    with pytest.raises(ContractError, match="no observation 'speed'"):
        through.replay(["bag"], model, through.Protocol(observation="speed"))
    short = {name: series(np.arange(9) * 10 * MS, np.zeros((9, 1))) for name in ("position", "velocity")}
    serve(monkeypatch, [("a_01", short)], 0.0)
    with pytest.raises(BagError, match=r"longer than 0.3 s"):
        through.replay(["bag"], model)


def test_horizons_are_typed_in_milliseconds():
    assert parse_horizons("100,200") == (0.1, 0.2)
    for text in ("", "100,x", "-5", "inf"):
        with pytest.raises(RunError, match="positive milliseconds"):
            parse_horizons(text)


def serve(monkeypatch, bags, action):
    """Let replay open `bags` (name, rows), each one episode under one constant normalised action."""
    queue = iter(bags)
    opened = {}

    def open_bag(path):
        name, rows = next(queue)
        opened["rows"] = rows
        return SimpleNamespace(path=Path(name))

    def align(bag, contract, options):
        rows = opened["rows"]
        stamps = rows["position"].stamps
        count = int(stamps[-1] // STEP) + 1
        pick = through.nearest(stamps, np.arange(count) * STEP)
        age = (np.arange(count) * STEP - stamps[pick]) / STEP
        mask = np.repeat((np.abs(age) <= 0.5)[:, None], 2, 1).astype(np.float32)
        observation = np.concatenate([rows[name].values[pick] for name in ("position", "velocity")], 1) * mask
        ages = np.repeat(age[:, None], 2, 1) * mask
        actions = np.full((count, 1), action, np.float32)
        rest = (np.zeros(count), observation, (), False, "bag")
        return [Episode(0, STEP, observation.astype(np.float32), mask, ages.astype(np.float32), actions, *rest)]

    monkeypatch.setattr(through, "open_bag", open_bag)
    monkeypatch.setattr(through, "measurements", lambda bag, contract: opened["rows"])
    monkeypatch.setattr(through, "align", align)
