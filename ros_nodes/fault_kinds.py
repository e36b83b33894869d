"""The faults of a campaign as one table: how each is done and undone, what must see it, what the motors then get and how soon.

The bounds are those of docs/safety.md, from the fields of the contract.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from robot_wm.contract import Contract
from ros_nodes.fault_witness import Sign

if TYPE_CHECKING:
    from ros_nodes.fault_actions import Actions

LATENT_STALE_S = 0.2  # default of planner_node
WATCHDOG_S = 0.5  # default of motor_node
LATEST_S = 0.05  # that the watchdog process may be late
REACH_S = 0.5  # until it has opened the bus and switched the power off
# Of the emulated hardware [s]; a servo of Feetech has none.
DEVICE_WATCHDOG_S = {"serial": 0.5, "dynamixel": 0.1}
CHECK_S = 0.05  # how late hardware may look at its watchdog


@dataclass(frozen=True)
class Bounds:
    """Seconds until the motors are safe, each from the fault to the last effort."""

    unplanned: float  # nothing plans any more
    blind: float  # the planner gets no latent any more
    deaf: float  # no joint state comes
    cut: float  # the line is cut: the hardware's own watchdog
    killed: float  # the motor process is gone
    hung: float  # the motor process is there and does nothing
    faulty: float  # the hardware cuts the power by itself
    unattended: float  # no effort stands longer than this without a new command


def bounds_of(contract: Contract, bus: str) -> Bounds:
    """By a contract, on emulated hardware of `bus`."""
    action, safety = contract.action, contract.safety
    largest = [max(abs(low), abs(high)) for low, high in zip(action.limit_low, action.limit_high, strict=True)]
    ramp = max((limit / rate for limit, rate in zip(largest, action.rate, strict=True)), default=0.0)
    tick, step = 1.0 / contract.motor_hz, 1.0 / contract.model_hz
    unplanned = safety.plan_stale_s + 2 * step + 2 * tick + ramp
    own = DEVICE_WATCHDOG_S.get(bus, float("inf")) + CHECK_S
    return Bounds(
        unplanned=unplanned,
        blind=LATENT_STALE_S + unplanned,
        deaf=safety.joint_stale_s + 2 * tick + ramp,
        cut=own,
        killed=min(REACH_S, own),
        hung=min(WATCHDOG_S + LATEST_S + REACH_S, own),
        faulty=CHECK_S,
        unattended=safety.plan_stale_s,
    )


@dataclass(frozen=True)
class Kind:
    """A row. `do(actions, variant, lasts_s)` inflicts it, `undo` lifts it; the operator then does the rest."""

    name: str
    do: Callable[[Actions, str, float], None]
    seen: tuple[Sign, ...]  # any of these must be seen; none: it is too small to be
    safe: str  # rest: no effort, or no power; off: no power; on: the robot may go on, and no effort stands unattended
    bound: Callable[[Bounds], float]
    beyond_s: tuple[float, float]  # from the bound to undo
    resumes: bool  # control comes back by itself, nobody arms
    undo: Callable[[Actions], None] = lambda actions: None
    variants: tuple[str, ...] = ("",)
    buses: tuple[str, ...] = ("serial", "dynamixel", "feetech")
    prepare: Callable[[Actions, str], None] = lambda actions, variant: None  # what takes time and is no fault yet


MOTOR_ENDED = (Sign("log motor_node", "killed it and cut the motors' power|ended without|cut the motors' power"),)
NO_PLAN = (Sign("state", "^hold: no plan"), Sign("motor_node", "^(hold|damped): "))
WATCHED = ("serial", "dynamixel")  # hardware with a watchdog of its own


def _kill(node: str) -> Callable[[Actions, str, float], None]:
    return lambda actions, variant, lasts_s: actions.kill(node)


def _freeze(node: str) -> Callable[[Actions, str, float], None]:
    return lambda actions, variant, lasts_s: actions.freeze(node)


def _line(text: str) -> Callable[[Actions, str, float], None]:
    """Ask the emulated hardware for a fault; `{0}` is the variant, `{1}` how long it lasts."""
    return lambda actions, variant, lasts_s: actions.line(text.format(variant, lasts_s))


def _whole(actions: Actions) -> None:
    actions.line("")


def _thaw(node: str) -> Callable[[Actions], None]:
    return lambda actions: actions.thaw(node)


def _meddle(topic: str, source: str = "") -> Callable[[Actions, str], None]:
    """Get ready to publish bad copies of what is heard on `source`, or on the topic itself."""
    return lambda actions, variant: actions.listen(topic, variant, source or topic)


def _publish(actions: Actions, variant: str, lasts_s: float) -> None:
    actions.publish()


def _processes() -> list[Kind]:
    rows = [
        Kind("kill motor", _kill("motor_node"), MOTOR_ENDED, "off", lambda b: b.killed, (1.0, 1.5), False),
        Kind("freeze motor", _freeze("motor_node"), MOTOR_ENDED, "off", lambda b: b.hung, (0.8, 1.3), False,
             _thaw("motor_node")),
        Kind("kill watchdog", lambda a, variant, s: a.kill_watchdog(), (Sign("motor_node", "the watchdog process has ended"),),
             "on", lambda b: b.unattended, (1.1, 1.5), False, lambda a: a.replace("motor_node")),
    ]  # fmt: skip
    stale = {"planner_node": lambda b: b.unplanned, "posterior_node": lambda b: b.blind}
    for node, bound in stale.items():
        name = node.removesuffix("_node")
        rows.append(Kind(f"kill {name}", _kill(node), NO_PLAN, "rest", bound, (0.5, 1.2), False))
        rows.append(Kind(f"freeze {name}", _freeze(node), NO_PLAN, "rest", bound, (0.5, 1.2), True, _thaw(node)))
    for node in ("recorder_node", "model_sync_node"):
        name = node.removesuffix("_node")
        ended, silent = (Sign(f"ended {node}"),), (Sign(f"silence {node}"),)
        rows.append(Kind(f"kill {name}", _kill(node), ended, "on", lambda b: b.unattended, (0.4, 0.9), True))
        rows.append(Kind(f"freeze {name}", _freeze(node), silent, "on", lambda b: b.unattended, (3.9, 4.4), True,
                         _thaw(node)))  # fmt: skip
    return rows


def _lines() -> list[Kind]:
    """Of the cable and what hangs on it; a noisy one may cost readings, and then the robot damps."""
    noisy = ("0.02", "0.05", "0.1", "0.2")
    rows = [
        Kind(f"line {fault}", _line(f"{fault}={{0}}"), (), "on", lambda b: b.unattended, (0.4, 1.4), False, _whole,
             noisy)
        for fault in ("corrupt", "drop", "duplicate", "delay", "truncate")
    ]  # fmt: skip
    deaf = (Sign("state", "no joint state for"), Sign("motor_node", "no joint state for"))
    gone = (Sign("state", "estop: |damped: "),)
    rows += [
        Kind("line deaf", _line("answers.drop=1"), deaf, "rest", lambda b: b.deaf, (0.3, 0.6), False, _whole),
        Kind("line dead", _line("drop=1"), gone, "off", lambda b: b.cut, (0.3, 0.6), False, _whole, buses=WATCHED),
        Kind("line stalls", _line("stall@0={1}"), gone, "off", lambda b: b.cut, (0.3, 0.6), False, buses=WATCHED),
        Kind("line hangs up", _line("hangup@0"), (Sign("state", "estop: .*no connection to"),), "off", lambda b: b.cut,
             (0.3, 0.6), False, lambda a: a.line("plugin@0"), buses=WATCHED),
        Kind("motor overheats", _line("overheat@0=0"), (Sign("state", "estop: .*(over-temperature|overheating)"),), "off",
             lambda b: b.faulty, (0.4, 0.7), False, lambda a: a.line("cool@0=0")),
        Kind("board clock slips", _line("clock@0={0}"), (), "on", lambda b: b.unattended, (1.1, 1.9), False,
             variants=("0.02", "-0.02", "0.1", "-0.1"), buses=("serial",)),
        Kind("board clock jumps", _line("clock@0={0}"), gone, "off", lambda b: b.cut, (0.7, 1.5), False,
             variants=("0.7", "-0.7", "30", "-30"), buses=("serial",)),
        Kind("readings are NaN", _line("nan@0={1}"), deaf, "rest", lambda b: b.deaf, (0.3, 0.6), False, buses=("serial",)),
    ]  # fmt: skip
    return rows


def _topics() -> list[Kind]:
    """Bad copies beside the real messages, of which the robot goes on by the latter."""
    every = ("nan", "shape", "future", "past", "unstamped", "delayed", "reordered")
    refused = {
        "plan": ("motor_node", "", (*every, "foreign")),
        "latent": ("planner_node", "", ("nan", "shape", "future", "unstamped")),
        "joint_states": ("posterior_node", "", every),
        "applied": ("posterior_node", "", ("nan", "shape", "future", "unstamped")),
        "command": ("motor_node", "applied", ("nan", "shape", "future", "past", "unstamped")),
    }
    rows = [
        Kind(f"bad {topic}", _publish, (Sign(f"refused {node}"),), "on", lambda b: b.unattended, (1.1, 1.5), True,
             lambda a: a.stop_publishing(), variants, prepare=_meddle(topic, source))
        for topic, (node, source, variants) in refused.items()
    ]  # fmt: skip
    # Only the newest latent counts, so older ones are passed over; one that cannot be used costs a plan until the next comes.
    strange = ("past", "delayed", "reordered", "foreign", "longer")
    rows.append(Kind("strange latent", _publish, (), "on", lambda b: b.unattended, (0.7, 1.1), True,
                     lambda a: a.stop_publishing(), strange, prepare=_meddle("latent")))  # fmt: skip
    return rows


def _files() -> list[Kind]:
    return [
        Kind("disk full", lambda a, variant, s: a.fill_disk(), (Sign("recorder_node", "^(?!recording|nothing|not active)"),), "on",
             lambda b: b.unattended, (1.5, 2.5), True, lambda a: a.replace("recorder_node")),
        Kind("bundle torn", lambda a, variant, s: a.bundles.point(), (Sign("log model_sync_node", "refused"),), "on",
             lambda b: b.unattended, (2.0, 3.0), True, lambda a: a.bundles.point_back(),
             ("altered", "truncated", "missing"), prepare=lambda a, variant: a.bundles.tear(variant)),
    ]  # fmt: skip


KINDS = {kind.name: kind for kind in (*_processes(), *_lines(), *_topics(), *_files())}
