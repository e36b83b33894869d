from contextlib import suppress

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from robot_wm.errors import BusError, MessageError
from sim.plant_wire import Kind, Message, check_path, connect, pack, unpack

messages = st.builds(
    Message,
    kind=st.sampled_from(Kind),
    sequence=st.integers(0, 2**32 - 1),
    stamp=st.integers(-(2**62), 2**62),
    values=arrays(np.float64, st.integers(1, 50)),
    flags=st.integers(0, 255),
    stream=st.integers(0, 255),
)


@given(messages)
def test_a_message_survives_the_wire(message):
    back = unpack(pack(message))
    assert (back.kind, back.sequence, back.stamp) == (message.kind, message.sequence, message.stamp)
    assert (back.flags, back.stream) == (message.flags, message.stream)
    assert np.array_equal(back.values, message.values, equal_nan=True)


@given(st.text(min_size=1))
def test_a_text_survives_the_wire(text):
    encodable = text.encode(errors="ignore").decode()
    assert unpack(pack(Message(Kind.TEXT, text=encodable))).text == encodable


@given(st.binary(max_size=200))
def test_any_other_bytes_are_refused_or_read_without_harm(data):
    with suppress(MessageError):
        unpack(data)


def test_a_truncated_message_says_so():
    data = pack(Message(Kind.COMMAND, values=np.ones(3)))
    with pytest.raises(MessageError, match="announces 3 values and carries 16 bytes"):
        unpack(data[:-8])


def test_a_path_that_the_system_cannot_take_is_refused():
    with pytest.raises(BusError, match="longer than 107 bytes"):
        check_path("/run/" + "x" * 120)


def test_no_plant_says_how_to_start_one(tmp_path):
    with pytest.raises(BusError, match=r"no plant at .*; start it with python -m sim.plant"):
        connect(tmp_path / "none", 0.1)
