"""A bundle of an RSSM: the same graphs, parity, filter and planner as the default family's; the decoder stays behind."""

import numpy as np
import onnx
import pytest
import torch

from models.export import BundleTemplate, load_world_model
from models.families import make_model
from models.graphs import signatures
from models.networks import Sizes
from models.rssm import CategoricalRssm
from models.train import Trainer, load_bundle_weights
from models.train_config import config_for
from robot_wm.backend import Model
from robot_wm.bundle import PlannerDefaults, load_bundle
from robot_wm.errors import BundleError
from robot_wm.messages import Latent
from robot_wm.planner import Carry, Planner
from robot_wm.verify import verify_on_device
from seeing import SeeingWindows, seeing_contract

TINY = Sizes("tiny", latent=16, mlp=24, encoder=16, value_heads=2, encoder_layers=2)
CONTRACT = seeing_contract()
FAMILY = "rssm-categorical"
PLANNER = PlannerDefaults(horizon=1, samples=24, proposals=2, elites=6)


def make(family=FAMILY, seed=0):
    torch.manual_seed(seed)
    model = make_model(CONTRACT, TINY, family)
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    return model


@pytest.fixture(scope="module")
def template():
    return BundleTemplate.trace(make(seed=3), CONTRACT, PLANNER, terminations=True)


@pytest.fixture(scope="module")
def bundle(template, tmp_path_factory):
    """Graphs traced with other weights, every one compared with PyTorch."""
    return template.write(make(), tmp_path_factory.mktemp("export") / "pendulum", draws=2)


def test_manifest_and_graphs_name_the_family(bundle):
    assert bundle.manifest.family == FAMILY
    assert bundle.manifest.latent == 32
    assert max(bundle.manifest.parity.values()) < 1e-3
    for graph in signatures(CONTRACT):
        metadata = {item.key: item.value for item in onnx.load(bundle.graph(graph)).metadata_props}
        assert metadata["family"] == FAMILY


def test_no_graph_holds_the_decoder(bundle):
    for graph in signatures(CONTRACT):
        names = [tensor.name for tensor in onnx.load(bundle.graph(graph)).graph.initializer]
        assert not any("decoder" in name for name in names), graph


def test_the_device_accepts_it_and_plans_with_it(bundle):
    model = Model(bundle, "cpu")
    verify_on_device(bundle, model)
    latent = Latent(0, np.array(bundle.manifest.initial_latent, np.float32), bundle.bundle_id)
    _, plan = Planner(CONTRACT, model).plan(Carry(), latent, 0)
    assert np.isfinite(plan.actions).all()
    assert np.abs(plan.actions).max() <= 3.0 + 1e-6


def test_what_the_bundle_computes_is_what_was_trained(bundle):
    trained, model = make().eval(), Model(bundle, "cpu")
    latent, action = torch.rand(3, 32), torch.rand(3, 1)
    with torch.no_grad():
        expected = trained.prior(latent, action).numpy()
    np.testing.assert_allclose(model.prior(latent.numpy(), action.numpy()), expected, atol=1e-5)


def test_training_goes_on_from_the_bundle(bundle):
    again = load_world_model(bundle.path, TINY)
    assert isinstance(again, CategoricalRssm)
    original = make()
    assert all(torch.equal(value, again.state_dict()[key]) for key, value in original.state_dict().items())
    config = config_for(CONTRACT, family=FAMILY)
    trainer = Trainer(make(seed=9), SeeingWindows(episodes=2), config)
    load_bundle_weights(trainer.model, bundle.path, CONTRACT)
    assert all(torch.equal(value, trainer.model.state_dict()[key]) for key, value in original.state_dict().items())
    assert all(np.isfinite(value) for value in trainer.update(1).values())


def test_another_family_neither_starts_from_it_nor_takes_its_graphs(bundle, template, tmp_path):
    with pytest.raises(BundleError, match="its family is rssm-categorical, not tdmpc2"):
        load_bundle_weights(make("tdmpc2"), bundle.path, CONTRACT)
    with pytest.raises(BundleError, match="a model of family rssm-gaussian does not fit graphs of rssm-categorical"):
        template.write(make("rssm-gaussian"), tmp_path / "other")
    assert load_bundle(bundle.path).bundle_id == bundle.bundle_id
