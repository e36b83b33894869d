"""A bundle of a robot that sees, written by hand in a moment: real ONNX graphs whose answers can be worked out on paper.

The latent (4,) is (position, velocity, brightness of the images in [0, 1], 1 after one); half of the innovation corrects it.
"""

import numpy as np
import onnx.parser

from robot_wm.backend import Session
from robot_wm.bundle import Manifest, PlannerDefaults, write_bundle
from robot_wm.verify import write_golden

PLANNER = PlannerDefaults(horizon=3, samples=32, proposals=2, elites=4, refinements=2)
HEAD = '<ir_version: 10, opset_import: ["" : 18]>\n'


def graphs(contract):
    """Text of every graph of a contract with one image, one action and two components of observation."""
    (image,) = contract.images
    height, width, channels = image.shape
    size = (
        4 if image.history == 1 else 7
    )  # behind the embeddings that of the frame before, and how long ago it was: not used
    action = "float[1] low, float[1] high, float[1] rate, float[1] jerk, float[2,1] previous"
    weights = "float temperature, float[1] action_cost, float[1] change_cost, float disagreement_cost, float elites"
    plan, answer = "float[3,1]", "float value, float elite_value, float disagreement"
    return {
        "encode": """encode (float[N,2] observation, float[N,3] mask, float[N,3] age) => (float[N,2] embedding)
            { embedding = Identity(observation) }""",
        f"encode_{image.name}": f"""look (uint8[N,{height},{width},{channels}] image) => (float[N,2] embedding)
            <int64[3] area = {{1, 2, 3}}, float white = {{255}}, int64[2] both = {{1, 2}}, int64[2] one = {{-1, 1}}>
            {{ seen = Cast<to = 1>(image)
              mean = ReduceMean<keepdims = 0>(seen, area)
              light = Div(mean, white)
              column = Reshape(light, one)
              zero = Sub(column, column)
              ones = Exp(zero)
              embedding = Concat<axis = 1>(column, ones) }}""",
        "posterior": f"""posterior (float[N,4] prior_latent, float[N,{size}] embedding, float[N,3] mask) => (float[N,4] latent)
            <int64[1] first = {{0}}, int64[1] from = {{3}}, int64[1] to = {{4}}, int64[1] axis = {{1}},
             float[4] always = {{0.5, 0.5, 0, 0}}, float[4] seen = {{0, 0, 0.5, 0.5}}>
            {{ newest = Slice(embedding, first, to, axis)
              there = Slice(embedding, from, to, axis)
              sometimes = Mul(there, seen)
              gain = Add(sometimes, always)
              innovation = Sub(newest, prior_latent)
              change = Mul(gain, innovation)
              latent = Add(prior_latent, change) }}""",
        "prior": """prior (float[N,4] latent, float[N,1] action) => (float[N,4] next_latent)
            <float[4] keep = {0.9, 0.9, 1, 1}, float[4] move = {1, 1, 0, 0}>
            { kept = Mul(latent, keep)
              moved = Mul(action, move)
              next_latent = Add(kept, moved) }""",
        "policy": """policy (float[N,4] latent) => (float[N,1] action) <int64[1] last = {1}>
            { action = ReduceMean<keepdims = 1>(latent, last) }""",
        "heads": """heads (float[N,4] latent, float[N,1] action) => (float[N] reward, float[N] value, float[N] disagreement)
            <int64[1] last = {1}>
            { reward = ReduceMean<keepdims = 0>(latent, last)
              value = Identity(reward)
              disagreement = Identity(reward) }""",
        "propose": "propose (float[1,4] latent, float[2,3,1] noise) => (float[2,3,1] proposals) "
        "{ proposals = Tanh(noise) }",
        "refine": f"""refine (float[1,4] latent, {plan} mean, {plan} std, float[S,3,1] noise,
            float[2,3,1] proposals, {action}, {weights})
            => ({plan} next_mean, {plan} next_std, {plan} best, {answer}) <int64[1] samples = {{0}}, float half = {{0.5}}>
            {{ drawn = ReduceMean<keepdims = 0>(noise, samples)
              moved = Add(mean, drawn)
              next_mean = Mul(moved, half)
              next_std = Mul(std, half)
              best = Tanh(drawn)
              value = ReduceMean<keepdims = 0>(latent)
              elite_value = Identity(value)
              disagreement = Abs(value) }}""",
        "readout": """readout (float[N,4] latent) => (float[N,2] observation)
            <int64[1] from = {0}, int64[1] to = {2}, int64[1] axis = {1}>
            { observation = Slice(latent, from, to, axis) }""",
    }


def write_seeing_bundle(path, contract, name="by hand"):
    """Write it to `path`, golden outputs and all."""

    def fill(folder):
        contract.save(folder / "contract.yaml")
        (folder / "graphs").mkdir()
        (folder / "note.txt").write_text(name)
        golden = {}
        for graph, text in graphs(contract).items():
            proto = onnx.parser.parse_model(HEAD + text)
            for key, value in (("contract_hash", contract.hash), ("graph", graph)):
                proto.metadata_props.add(key=key, value=value)
            onnx.checker.check_model(proto)
            file = folder / "graphs" / f"{graph}.onnx"
            onnx.save(proto, file)
            golden[graph] = _golden(Session(file, "cpu"))
        write_golden(folder, golden)

    manifest = Manifest(name, "tdmpc2", "nano", 4, (0.0, 0.0, 0.0, 0.0), 0.99, contract.hash, PLANNER)
    return write_bundle(path, manifest, fill)


def _golden(session):
    rng = np.random.default_rng(0)
    sizes = {"N": 2, "S": PLANNER.samples}
    inputs = {}
    for name, shape in session.inputs.items():
        shape = [sizes.get(size, size) for size in shape]
        image = name in session.images
        inputs[name] = rng.integers(0, 256, shape).astype(np.uint8) if image else rng.random(shape, np.float32)
    return inputs, session.run(**inputs)
