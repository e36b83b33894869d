"""What makes a board at a serial port unfit, in one sentence that names both sides."""

from __future__ import annotations

from robot_wm.buses.framing import VERSION
from robot_wm.buses.joint_map import JointMap
from robot_wm.buses.serial_link import SerialLink
from robot_wm.buses.serial_protocol import MODES, Info
from robot_wm.errors import BusError


def no_answer(link: SerialLink, waited_s: float) -> str:
    """Why nobody answered on a link."""
    if link.decoder.foreign_version():
        return (
            f"board at {link.path} speaks version {link.decoder.foreign_version()} of the serial protocol, "
            f"this side version {VERSION}; update the older one"
        )
    came = link.decoder.counts["bytes"]
    return (
        f"no board answers at {link.path}, {link.baud} baud, within {waited_s:g} s "
        f"({f'{came} bytes came, but no answer' if came else 'nothing came'}); "
        "check the port, the baud rate and the board's power"
    )


def require_fit(board: str, info: Info, joints: JointMap, shortest_s: float, longest_s: float) -> None:
    """Raise BusError unless joints, motors and mode are the contract's, and the watchdog lies within the bounds [s]."""
    mode = MODES[info.mode] if info.mode < len(MODES) else f"number {info.mode}"
    for what, theirs, ours in (
        ("joints", info.joints, len(joints.names)),
        ("motors", info.motors, joints.motors),
        ("control mode", mode, joints.mode),
    ):
        if theirs != ours:
            raise BusError(f"{board} has {what} {theirs}, this side {ours} for {', '.join(joints.names)}")
    if not shortest_s <= info.watchdog_ms / 1e3 <= longest_s:
        raise BusError(
            f"{board} has a watchdog of {info.watchdog_ms} ms; it must lie between two motor periods, "
            f"{shortest_s * 1e3:g} ms, and {longest_s * 1e3:g} ms"
        )
