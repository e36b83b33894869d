"""Rescue what a killed recorder, a full disk or a bad sector left readable of an MCAP bag."""

from __future__ import annotations

import contextlib
import struct
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import Any

from robot_wm.bags.storage import DAMAGE, MCAP_MAGIC, custom_data, data_files
from robot_wm.bags.writer import BagWriter
from robot_wm.errors import BagError

RECORD_HEAD = 9  # opcode and length
CHUNK_HEAD = 32  # bytes of a chunk before the name of its compression


@dataclass
class Salvaged:
    """What was saved: messages by topic, and what was not."""

    bag: str
    topics: dict[str, int] = field(default_factory=dict)
    seconds: float = 0.0  # from the first to the last message saved
    damaged_chunks: int = 0
    lost_bytes: int = 0  # behind the last whole record; what could be decompressed of them is saved all the same

    @property
    def messages(self) -> int:
        return sum(self.topics.values())


def salvage(path: Path | str, out: Path | str) -> Salvaged:
    """Copy every readable message of a (cut off, damaged or whole) MCAP bag into the new bag `out`.

    Raises:
        BagError: when there is no MCAP data at `path`, nothing of it can be read, or `out` cannot be written.
    """
    path, out = Path(path), Path(out)
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    files = data_files(path)
    if any(file.suffix != ".mcap" for file in files):
        raise BagError(f"{path}: only MCAP bags can be salvaged; SQLite repairs itself when the bag is opened")
    result = Salvaged(str(out))
    custom = _custom_data(path, files)
    custom["salvaged_from"] = str(path)
    with BagWriter(out, custom_data=custom, sync=False) as writer:
        for file in files:
            if file.exists():
                _copy(file, writer, result)
        writer.flush()
        result.topics = writer.counts
        result.seconds = writer.seconds
    if not result.messages:
        raise BagError(f"{path}: no message in it can be read; {out} is an empty bag")
    return result


def _custom_data(path: Path, files: tuple[Path, ...]) -> dict[str, str]:
    """What is known of the recording, from metadata.yaml or else from the head of the first file."""
    try:
        found = custom_data(path)
    except BagError:
        found = {}
    return found or custom_data(files[0])


def _copy(file: Path, writer: BagWriter, result: Salvaged) -> None:
    from mcap.records import Channel, Message, Schema

    schemas: dict[int, Any] = {}
    channels: dict[int, Any] = {}
    for record in _records(file, result):
        if isinstance(record, Schema):
            schemas[record.id] = record
        elif isinstance(record, Channel):
            channels[record.id] = record
        elif isinstance(record, Message) and record.channel_id in channels:
            channel = channels[record.channel_id]
            schema = schemas.get(channel.schema_id)
            writer.write_raw(
                channel.topic,
                schema.name if schema else "unknown",
                record.data,
                record.publish_time,
                record.log_time,
                definition=schema.data.decode(errors="replace") if schema else "",
                qos=channel.metadata.get("offered_qos_profiles", ""),
            )


def _records(file: Path, result: Salvaged) -> Iterator[Any]:
    """Every schema, channel and message in front of the index or of the first thing that is no record."""
    from mcap.opcode import Opcode

    size = file.stat().st_size
    with file.open("rb") as stream:
        stream.seek(len(MCAP_MAGIC))
        while True:
            position = stream.tell()
            head = stream.read(RECORD_HEAD)
            opcode, length = struct.unpack("<BQ", head) if len(head) == RECORD_HEAD else (0, 0)
            if opcode in (Opcode.DATA_END, Opcode.FOOTER):
                return
            body = stream.read(max(0, min(length, size - stream.tell())))
            if not opcode or len(body) < length:
                result.lost_bytes += size - position
                if opcode == Opcode.CHUNK:
                    yield from _split(_decompressed_start(body))
                return
            if opcode == Opcode.CHUNK:
                yield from _chunk(body, result)
            else:
                yield from _split(head + body)


def _chunk(body: bytes, result: Salvaged) -> list[Any]:
    """The records of one chunk, none if it fails its checksum."""
    import zstandard
    from mcap.data_stream import ReadDataStream
    from mcap.exceptions import McapError
    from mcap.records import Chunk
    from mcap.stream_reader import breakup_chunk

    try:
        return breakup_chunk(Chunk.read(ReadDataStream(BytesIO(body))), validate_crc=True)
    except (McapError, zstandard.ZstdError, *DAMAGE):
        result.damaged_chunks += 1
        return []


def _decompressed_start(body: bytes) -> bytes:
    """What can be decompressed of a chunk that was cut off."""
    import zstandard

    if len(body) < CHUNK_HEAD:
        return b""
    (name_size,) = struct.unpack_from("<I", body, CHUNK_HEAD - 4)
    compression, data = body[CHUNK_HEAD : CHUNK_HEAD + name_size], body[CHUNK_HEAD + name_size + 8 :]
    if compression == b"zstd":
        try:
            return zstandard.ZstdDecompressor().decompressobj().decompress(data)
        except zstandard.ZstdError:
            return b""
    if compression == b"lz4":
        import lz4.frame  # type: ignore[import-untyped]

        try:
            return bytes(lz4.frame.LZ4FrameDecompressor().decompress(data))
        except RuntimeError:
            return b""
    return data


def _split(data: bytes) -> Iterator[Any]:
    """The whole schema, channel and message records at the start of `data`."""
    from mcap.exceptions import McapError

    at = 0
    while at + RECORD_HEAD <= len(data):
        opcode, length = struct.unpack_from("<BQ", data, at)
        end = at + RECORD_HEAD + length
        if end > len(data):
            return
        with contextlib.suppress(McapError, *DAMAGE):  # a record that is none costs no other
            yield from _record(opcode, data[at + RECORD_HEAD : end])
        at = end


def _record(opcode: int, body: bytes) -> list[Any]:
    """The schema, channel or message of one record, or nothing."""
    from mcap.data_stream import ReadDataStream
    from mcap.opcode import Opcode
    from mcap.records import Channel, Message, Schema

    stream = ReadDataStream(BytesIO(body))
    if opcode == Opcode.SCHEMA:
        return [Schema.read(stream)]
    if opcode == Opcode.CHANNEL:
        return [Channel.read(stream)]
    return [Message.read(stream, len(body))] if opcode == Opcode.MESSAGE else []
