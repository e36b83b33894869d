"""The crash-safe bag writer: MCAP in small chunks, handed to the disk whole and often.

A killed recorder loses at most the last `flush_s`; what is in the file stays readable with `robot-wm bags salvage`. A full
disk costs nothing that was written before: the file is cut back to its last whole chunk and closed properly.
"""

from __future__ import annotations

import errno
import shutil
from collections import deque
from pathlib import Path
from types import TracebackType
from typing import IO, Any, cast

import yaml

from robot_wm.bags.metadata import Counts, mcap_name, write_metadata
from robot_wm.bags.types import encode, schema, typestore
from robot_wm.bags.whole_file import WholeFile, minimal_ending
from robot_wm.contract import Contract
from robot_wm.errors import BagError
from robot_wm.timebase import NS_PER_S, Clock, MonotonicClock, RosOffset

CHUNK_BYTES = 64 * 1024
FLUSH_S = 0.25
CONTRACT_KEY = "contract"
HASH_KEY = "contract_hash"
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROLLBACKS = 32  # whole chunks that may be given up to make room for the file's ending on a full disk


class BagWriter:
    """Writes one rosbag2 directory: `<name>_0.mcap` and `metadata.yaml` (version 9, as Jazzy writes).

    Args:
        path: the bag's directory; must not exist yet.
        contract: its text and hash go into `custom_data`; names the joints of `Applied` and `Plan`.
        custom_data: more text to keep with the bag.
        clock: drives the flush; data reaches the disk at most `flush_s` after it was written, as long as `write` or
            `poll` is called.
        offset: from the stamps of the messages to ROS time, which is what a bag holds.
        sync: whether every flush also waits for the disk (needed against power cuts, not against a killed process).

    Raises:
        BagError: when the directory exists or cannot be made, and from `write` when the disk is full: everything
            written so far stays readable and the caller can go on without recording.
    """

    def __init__(
        self,
        path: Path | str,
        contract: Contract | None = None,
        custom_data: dict[str, str] | None = None,
        clock: Clock | None = None,
        offset: RosOffset | None = None,
        flush_s: float = FLUSH_S,
        sync: bool = True,
    ) -> None:
        self.path = Path(path)
        self.failure: BagError | None = None
        self._contract = contract
        self._custom = dict(custom_data or {})
        if contract is not None:
            text = yaml.safe_dump(contract.to_dict(), sort_keys=False, width=120)
            self._custom |= {CONTRACT_KEY: text, HASH_KEY: contract.hash}
        self._clock = clock or MonotonicClock()
        self._offset = offset or RosOffset(0)
        self._flush = round(flush_s * NS_PER_S)
        self._sync = sync
        self._channels: dict[str, tuple[int, str]] = {}
        self._counts = Counts()
        self._whole: deque[tuple[int, Counts]] = deque(maxlen=ROLLBACKS)
        self._closed = False
        self._open()

    def _open(self) -> None:
        from mcap.writer import CompressionType, Writer

        typestore()  # built now, so that the first message does not wait for it
        try:
            self.path.mkdir(parents=True)
            self._file = WholeFile(self.path / mcap_name(self.path))
        except FileExistsError:
            raise BagError(f"{self.path}: exists already; a bag is never written over, choose another name") from None
        except OSError as error:
            raise BagError(f"{self.path}: a bag cannot be made here: {error.strerror}") from error
        self._mcap: Any = Writer(cast("IO[Any]", self._file), chunk_size=CHUNK_BYTES, compression=CompressionType.ZSTD)
        self._mcap.start(profile="ros2", library="robot_wm")
        self._mcap.add_metadata("robot_wm", self._custom)
        try:
            self._file.commit()
            self._write_metadata()
        except OSError as error:
            self._file.close()
            shutil.rmtree(self.path, ignore_errors=True)
            raise BagError(f"{self.path}: a bag cannot be made here: {error.strerror}") from error
        self._whole.append((self._file.committed, self._counts.copy()))
        self._due = self._clock.now() + self._flush

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @property
    def counts(self) -> dict[str, int]:
        """Messages per topic so far."""
        return dict(self._counts.topics)

    @property
    def seconds(self) -> float:
        """From the first to the last receive stamp so far."""
        return (self._counts.last - self._counts.first) / NS_PER_S

    def write(self, topic: str, message: object, receive_stamp: int | None = None) -> None:
        """Append one stamped dataclass (see `robot_wm/bags/types.py`).

        Args:
            topic: relative names get a leading slash.
            receive_stamp: when it arrived [ns], on the messages' clock; default its own stamp.
        """
        msgtype, data, stamp = encode(message, self._contract, self._offset)
        received = stamp if receive_stamp is None else self._offset.to_ros(receive_stamp)
        self.write_raw(topic, msgtype, data, stamp, received)

    def write_raw(
        self,
        topic: str,
        msgtype: str,
        data: bytes,
        stamp: int,
        receive_stamp: int | None = None,
        definition: str | None = None,
        qos: str = "",
    ) -> None:
        """Append one serialised (CDR) message.

        Args:
            msgtype: such as `sensor_msgs/msg/JointState`.
            stamp: publication or header stamp, ROS time [ns].
            receive_stamp: when it arrived, ROS time [ns], default `stamp`; a bag is in the order of arrival, so one that is
                older than the previous message's is raised to it.
            definition: ros2msg text of a type that is not part of ROS 2 Jazzy.
            qos: offered QoS profiles as rosbag2 writes them, kept with the topic.
        """
        if self.failure is not None:
            raise self.failure
        if self._closed:
            raise BagError(f"{self.path}: the bag is closed; {topic} cannot be written any more")
        topic = absolute(topic)
        channel, known = self._channels.get(topic) or self._register(topic, msgtype, definition, qos)
        if known != msgtype:
            raise BagError(f"{self.path}: {topic} carries {known}, so {msgtype} cannot be written to it")
        counts = self._counts
        received = max(stamp if receive_stamp is None else receive_stamp, counts.last)
        counts.first = counts.first if counts.total else received
        counts.last = received
        counts.topics[topic] += 1
        self._mcap.add_message(channel, received, data, max(stamp, 0), sequence=counts.topics[topic])
        self.poll()

    def _register(self, topic: str, msgtype: str, definition: str | None, qos: str) -> tuple[int, str]:
        text = schema(msgtype) if definition is None else definition
        schema_id = self._mcap.register_schema(msgtype, "ros2msg" if text else "", text.encode())
        channel = self._mcap.register_channel(topic, "cdr", schema_id, {"offered_qos_profiles": qos})
        self._channels[topic] = (channel, msgtype)
        self._counts.topics[topic] = 0
        return self._channels[topic]

    def poll(self) -> None:
        """Flush if it is time; a recorder calls it from a timer, so that a silent topic does not hold data back."""
        if self._clock.now() >= self._due:
            self.flush()

    def flush(self) -> None:
        """Close the chunk in progress and hand everything to the disk. Raises BagError on a full disk."""
        if self.failure is not None or self._closed:
            return
        self._mcap.flush()
        self._commit()
        self._due = self._clock.now() + self._flush

    def _commit(self) -> None:
        try:
            if not self._file.commit():
                return
            if self._sync:
                self._file.sync()
        except OSError as error:
            raise self._fail(error) from error
        self._whole.append((self._file.committed, self._counts.copy()))

    def close(self) -> None:
        """Write the index and the final metadata; harmless when called twice. Raises BagError on a full disk."""
        if self._closed:
            return
        self._closed = True
        if self.failure is not None:
            return
        self._mcap.flush()
        self._commit()
        try:
            self._mcap.finish()
            self._file.commit()
            self._file.sync()
            self._write_metadata()
        except OSError as error:
            raise self._fail(error) from error
        self._file.close()

    def _fail(self, error: OSError) -> BagError:
        """Cut the file back to whole chunks, end it, and remember the one error that every later call gets."""
        kept = self._end_on_full_disk()
        told = f"{kept.total} messages are kept and readable" if kept else "the bag could not be ended, salvage it"
        self.failure = BagError(
            f"{self.path}: recording stopped: {error.strerror}; {told}; free the disk and start a new bag"
        )
        self._file.close()
        self._closed = True
        return self.failure

    def _end_on_full_disk(self) -> Counts | None:
        """Give up as few chunks as it takes to fit an ending without index, and the metadata."""
        while self._whole:
            position, self._counts = self._whole.pop()
            try:
                self._file.cut(position)
                self._file.write(minimal_ending())
                self._file.commit()
                self._file.sync()
                self._write_metadata()
            except OSError as error:
                if error.errno not in NO_ROOM:
                    return None
                continue
            return self._counts
        return None

    def _write_metadata(self) -> None:
        types = {topic: msgtype for topic, (_, msgtype) in self._channels.items()}
        write_metadata(self.path, self._counts, types, self._custom)


def absolute(topic: str) -> str:
    """The name a bag holds: with a leading slash."""
    return topic if topic.startswith("/") else f"/{topic}"
