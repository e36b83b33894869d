"""A bundle of a robot that sees has one more graph per image, and what it computes is what was trained.

Its model has every other part that the one of test_export.py lacks: anchored observations and terminations.
"""

import json

import numpy as np
import onnx
import pytest
import torch

from models.export import BundleTemplate, export_bundle, load_world_model
from models.graphs import signatures
from robot_wm.backend import Model
from robot_wm.bundle import GRAPHS, PlannerDefaults, graphs_for, load_bundle
from robot_wm.errors import BackendError, BundleError
from robot_wm.verify import read_golden, verify_on_device
from seeing import EYE, TINY, WRIST, pictures, seeing_contract, seeing_model

CONTRACT = seeing_contract(EYE, WRIST, anchored=True)
PLANNER = PlannerDefaults(horizon=1, samples=24, proposals=2, elites=6)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Made by a template that was traced with other weights."""
    folder = tmp_path_factory.mktemp("export")
    export_bundle(seeing_model(CONTRACT), CONTRACT, folder / "first", PLANNER, terminations=True)
    return BundleTemplate.load(folder / "first").write(seeing_model(CONTRACT, seed=5), folder / "second")


def test_every_image_has_a_graph_of_its_own(bundle):
    assert graphs_for(CONTRACT) == (*GRAPHS, "encode_eye", "encode_wrist") == tuple(signatures(CONTRACT))
    proto = onnx.load(bundle.graph("encode_eye"))
    (given,), (answer,) = proto.graph.input, proto.graph.output
    assert (given.name, answer.name) == ("image", "embedding")
    assert given.type.tensor_type.elem_type == onnx.TensorProto.UINT8
    dims = given.type.tensor_type.shape.dim
    assert (dims[0].dim_param, [d.dim_value for d in dims[1:]]) == ("N", EYE["shape"])
    assert {item.key: item.value for item in proto.metadata_props}["contract_hash"] == CONTRACT.hash


def test_what_the_bundle_computes_is_what_was_trained(bundle):
    trained, model = seeing_model(CONTRACT, seed=5), Model(bundle, "cpu")
    images = {"eye": pictures(3), "wrist": pictures(3, shape=tuple(WRIST["shape"]))}
    latent, mask = trained.initial_latent.expand(3, -1), torch.tensor([[1.0, 1, 1, 1], [0, 0, 1, 0], [1, 1, 0, 1]])
    observation, age = torch.randn(3, 2), 0.1 * torch.ones(3, 4)
    with torch.no_grad():
        views = [trained.encode_image(name, image) for name, image in images.items()]
        expected = trained.join(trained.encode(observation, mask, age), views, mask)
        corrected = trained.posterior(latent, expected, mask)
    state = model.encode(observation.numpy(), mask.numpy(), age.numpy())
    got = {name: model.encode_image(name, image.numpy()) for name, image in images.items()}
    for view, answer in zip(views, got.values(), strict=True):
        np.testing.assert_allclose(answer, view.numpy(), atol=1e-5)
    for row, there in ((0, ("eye", "wrist")), (1, ("eye",)), (2, ("wrist",))):
        part = slice(row, row + 1)
        embedding = model.join(state[part], {name: got[name][part] for name in there})
        np.testing.assert_allclose(embedding, expected[part].numpy(), atol=1e-5)
        answer = model.posterior(latent[part].numpy(), embedding, mask[part].numpy())
        np.testing.assert_allclose(answer, corrected[part].numpy(), atol=1e-5)


def test_golden_images_are_bytes_and_every_graph_is_verified(bundle):
    golden = read_golden(bundle)
    assert golden["encode_wrist"][0]["image"].dtype == np.uint8
    assert set(verify_on_device(bundle, Model(bundle, "cpu")).errors) == set(graphs_for(CONTRACT))
    assert set(bundle.manifest.parity) == set(graphs_for(CONTRACT))


def test_an_image_of_floats_is_refused_rather_than_rounded(bundle):
    with pytest.raises(BackendError, match=r"encode_eye.onnx: input 'image' takes bytes \(uint8\), not float32"):
        Model(bundle, "cpu").encode_image("eye", pictures(1).float().numpy())


def test_whoever_opens_the_encoder_opens_those_of_the_images(bundle):
    assert set(Model(bundle, graphs=("encode", "prior")).sessions) == {"encode", "prior", "encode_eye", "encode_wrist"}
    assert set(Model(bundle, graphs=("propose", "refine")).sessions) == {"propose", "refine"}


def test_a_bundle_that_lacks_an_image_graph_is_refused(bundle, tmp_path):
    manifest = json.loads((bundle.path / "manifest.json").read_text())
    del manifest["files"]["graphs/encode_eye.onnx"]
    copy = tmp_path / "copy"
    copy.symlink_to(bundle.path)  # digests are of the files that it lists
    original = (bundle.path / "manifest.json").read_text()
    try:
        (bundle.path / "manifest.json").write_text(json.dumps(manifest))
        with pytest.raises(BundleError, match="manifest.json lists no encode_eye"):
            load_bundle(copy)
    finally:
        (bundle.path / "manifest.json").write_text(original)


def test_its_weights_are_a_start_for_fine_tuning(bundle):
    again, trained = load_world_model(bundle, TINY), seeing_model(CONTRACT, seed=5)
    assert all(torch.equal(p, q) for p, q in zip(again.parameters(), trained.parameters(), strict=True))
