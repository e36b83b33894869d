"""With a history of two frames a correction sees motion: the frame before, where it is near, is part of what an image says."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from models.export import export_bundle
from models.late_images import paired
from models.rollout import as_known, roll_out
from models.train import Trainer
from models.train_config import config_for
from models.windows import draw_noise, draw_sequence
from robot_wm.backend import Model
from robot_wm.bundle import PlannerDefaults
from robot_wm.errors import ContractError
from robot_wm.latent_filter import LatentFilter
from robot_wm.messages import Measurement
from seeing import EYE, WRIST, SeeingWindows, pictures, seeing_contract, seeing_model

PAIRED = EYE | {"history": 2}  # 10 Hz of 20: the frame before is two instants away, three at most
CONTRACT = seeing_contract(PAIRED, WRIST)


def test_each_image_gets_the_newest_one_before_it_that_is_in_reach():
    model, mask = seeing_model(CONTRACT), torch.zeros(9, 1, 4)
    mask[[0, 1, 4, 8], 0, 2] = 1.0
    mask[:, 0, 3] = 1.0
    views = [torch.randn(9, 1, 16), torch.randn(9, 1, 16)]
    eye, wrist = paired(model, views, mask)
    assert wrist is views[1] and eye.shape == (9, 1, 33)
    for t, before in ((0, None), (1, 0), (4, 1), (8, None), (5, None)):
        earlier = torch.zeros(16) if before is None else views[0][before, 0]
        assert torch.equal(eye[t, 0, :16], views[0][t, 0]) and torch.equal(eye[t, 0, 16:32], earlier)
        assert eye[t, 0, 32] == (0.0 if before is None else (t - before) / 3)


@pytest.mark.parametrize("family", ["tdmpc2", "rssm-gaussian"])
def test_a_bundles_filter_comes_to_what_the_model_was_trained_to(family, tmp_path):
    from models.families import make_model

    contract = seeing_contract(PAIRED)
    torch.manual_seed(0)
    trained = make_model(contract, seeing_model().sizes, family).eval()
    bundle = export_bundle(
        trained, contract, tmp_path / "bundle", PlannerDefaults(horizon=1, samples=24, elites=6, proposals=2)
    )
    filter_ = LatentFilter(contract, Model(bundle, "cpu"), start=0)
    images, there = pictures(8), (0, 2, 4, 7)
    mask = torch.zeros(8, 1, 3)
    mask[list(there), 0, 2] = 1.0
    with torch.no_grad():
        (view,) = paired(trained, [trained.encode_image("eye", images)[:, None]], mask)
        latent = trained.initial_latent[None]
        for t in range(8):
            if t:
                latent = trained.prior(latent, torch.zeros(1, 1))
            state = trained.encode(torch.zeros(1, 2), mask[t], 0 * mask[t])
            latent = trained.posterior(latent, trained.join(state, [view[t]], mask[t]), mask[t])
    for t in (4, 0, 7, 2):  # in any order
        assert filter_.observe(Measurement("eye", filter_.grid.stamp(t), images[t].numpy())).outcome == "accepted"
    np.testing.assert_allclose(filter_.latent().values, latent[0].numpy(), atol=1e-5)


def test_training_sees_the_frame_before_and_learns_to_use_it():
    contract = seeing_contract(PAIRED)
    model, windows = seeing_model(contract), SeeingWindows(episodes=4)
    config = replace(config_for(contract, drop=0.0, cold=0.0, hidden=0.0, early=False, starts=2), batch=6)
    sequence = draw_sequence(windows, np.random.default_rng(0), config)
    noise = draw_noise(model, config.loss, 6, torch.Generator().manual_seed(0))
    known, _, _ = as_known(model, config.loss, sequence, noise)
    torch.testing.assert_close(known, roll_out(model, config.loss, sequence, noise).latents[0])
    before = [p.clone() for p in model.frame_pairs.parameters()]
    Trainer(model, windows, config).update(2)
    assert all(not torch.equal(a, b) for a, b in zip(before, model.frame_pairs.parameters(), strict=True))


def test_a_history_belongs_to_the_model_but_not_to_its_recordings():
    plain, pairs = seeing_contract(EYE), seeing_contract(PAIRED)
    assert plain.hash == seeing_contract(EYE | {"history": 1}).hash != pairs.hash
    pairs.require_data_of(plain, "bag")
    with pytest.raises(ContractError, match=r"images\[0\].history: 2 != None"):
        pairs.require_same(plain, "bundle")
    with pytest.raises(ContractError, match=r"images\[0\].history: must be 1 or 2 frames, got 3"):
        seeing_contract(EYE | {"history": 3})
    with pytest.raises(ContractError, match=r"images\[0\].rate_hz: is needed with a history"):
        seeing_contract(PAIRED | {"rate_hz": 0.0})
