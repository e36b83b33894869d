"""`robot-wm guard`: the robot may move as long as this says so; a key, an open contact, or the end of this process stops it.

Publishes `estop_clear`, which motor_node asks for with its parameter `estop_clear_s`.
"""

from __future__ import annotations

import contextlib
import os
import select
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from robot_wm.errors import RunError

PERIOD_S = 0.05


def guard(
    serial: Annotated[
        Path | None,
        typer.Option(
            help="Serial port with a normally closed e-stop button between its RTS and CTS: open stops the robot."
        ),
    ] = None,
    namespace: Annotated[str, typer.Option(help="ROS namespace of the robot.")] = "",
) -> None:
    """Say 20 times a second that the robot may move (topic estop_clear), until a key is pressed.

    motor_node has to ask for it: -p estop_clear_s:=0.2, or the same in --params-file.
    """
    if serial is None and not sys.stdin.isatty():
        raise RunError("guard needs a terminal to read keys from, or --serial with a button on it")
    with contact(serial) as closed, keys() as pressed:
        print("the robot may move; any key stops it, and so does the end of this command", file=sys.stderr)
        publish(closed, pressed, namespace)


@contextlib.contextmanager
def contact(port: Path | None) -> Iterator[Callable[[], bool]]:
    """Whether the contact on a serial port is closed; without a port it always is. Raises RunError where there is none."""
    if port is None:
        yield lambda: True
        return
    from serial import Serial, SerialException

    try:
        with Serial(str(port)) as opened:
            opened.rts = True
            yield lambda: bool(opened.cts)
    except (SerialException, OSError) as error:
        raise RunError(f"{port}: no e-stop button can be read there: {error}") from error


@contextlib.contextmanager
def keys() -> Iterator[Callable[[], bool]]:
    """Whether a key has been pressed since the last call; never, where there is no terminal."""
    if not sys.stdin.isatty():
        yield lambda: False
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        tty.setcbreak(sys.stdin)

        def pressed() -> bool:
            return bool(select.select([sys.stdin], [], [], 0.0)[0] and os.read(sys.stdin.fileno(), 1024))

        yield pressed
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSADRAIN, before)


def publish(closed: Callable[[], bool], pressed: Callable[[], bool], namespace: str) -> None:
    """Publish until interrupted; once a key was pressed, never `true` again."""
    import rclpy
    from rclpy.context import Context
    from rclpy.signals import SignalHandlerOptions
    from std_msgs.msg import Bool

    from ros_nodes import topics

    context = Context()
    rclpy.init(context=context, signal_handler_options=SignalHandlerOptions.NO)
    node: Any = rclpy.create_node("guard", namespace=namespace, context=context)
    publisher = node.create_publisher(Bool, topics.ESTOP_CLEAR, topics.latest())
    stopped, said = False, True
    try:
        while True:
            if pressed() and not stopped:
                stopped = True
                print("stopped: Ctrl-C, start this again, then ~/reset and ~/arm", file=sys.stderr)
            clear = not stopped and closed()
            if clear is not said and not stopped:
                print("the contact is closed" if clear else "the contact is open: stopped", file=sys.stderr)
            said = clear
            publisher.publish(Bool(data=clear))
            time.sleep(PERIOD_S)
    except KeyboardInterrupt:
        publisher.publish(Bool(data=False))
    finally:
        node.destroy_node()
        rclpy.try_shutdown(context=context)
