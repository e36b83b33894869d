"""Helpers for tests of motor buses on a line that may fail."""

import time

from robot_wm.errors import BusError


def until_read(bus):
    """Read until it works again, or 60 s have passed; returns what it said meanwhile."""
    said, end = set(), time.monotonic() + 60
    while time.monotonic() < end:
        try:
            bus.read()
            return said
        except BusError as error:
            said.add(str(error))
    raise AssertionError(said)
