"""Who has everything measured drives a robot that has not: data for a task that sees, from a bundle of its sibling."""

from __future__ import annotations

from typing import cast

from robot_wm.backend import Model
from robot_wm.bundle import Bundle
from robot_wm.errors import ContractError
from robot_wm.messages import Applied, FloatArray, Measurement
from robot_wm.search import Search
from sim.agents import Agent, WorldModelAgent
from sim.tasks import SeeingTask, Task, contract_of


class Demonstrator:
    """An agent of the sibling in a task that sees. It gets the sibling's measurements, at once; what the task's own robot
    measures is for the bag."""

    def __init__(self, task: SeeingTask, agent: Agent) -> None:
        self._task, self._agent = task, agent

    def reset(self, start: int, seed: int) -> None:
        self._agent.reset(start, seed)

    def observe(self, measurement: Measurement, now: int) -> None:
        pass

    def request(self, now: int) -> FloatArray:
        for measurement in self._task.read_all(now):
            self._agent.observe(measurement, now)
        return self._agent.request(now)

    def applied(self, applied: Applied) -> None:
        self._agent.applied(applied)

    def published(self) -> list[tuple[str, object]]:
        """Nothing: latents and plans of the sibling's bundle mean nothing to a robot of this contract."""
        return []


def driver(task: Task, bundle: Bundle, search: Search | None = None, refinements: int | None = None) -> Agent:
    """An agent that drives `task` by `bundle`, made for it or for its sibling; `search` and `refinements` as in `evaluate`.

    Raises:
        ContractError: it was made for neither.
    """
    own, sibling = task.contract, getattr(task, "sibling", "")
    full = contract_of(sibling) if sibling else own
    if bundle.contract.hash not in (own.hash, full.hash):
        for contract in (own, full):
            if contract.name == bundle.contract.name:
                contract.require_same(bundle.contract, f"bundle {bundle.path}")
        wanted = f"{own.name} or for its sibling {sibling}" if sibling else own.name
        raise ContractError(f"bundle {bundle.path} was made for {bundle.contract.name}; choose one for {wanted}")
    shown = bundle.contract.hash == own.hash
    agent = WorldModelAgent(own if shown else full, Model(bundle, "cpu"), refinements=refinements, search=search)
    return agent if shown else Demonstrator(cast("SeeingTask", task), agent)
