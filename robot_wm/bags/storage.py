"""Find, check and open the files of a bag: a rosbag2 directory, a bare MCAP or SQLite file, or a ROS 1 bag."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import yaml

from robot_wm.bags.types import typestore
from robot_wm.errors import BagError
from robot_wm.yaml_text import read_yaml

MCAP_MAGIC = b"\x89MCAP0\r\n"
# What parsers trip over in damaged bytes. A length of 2^60 is a MemoryError or an OverflowError before any memory is used.
DAMAGE = (
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    EOFError,
    MemoryError,
    OverflowError,
    RecursionError,
    RuntimeError,
    struct.error,
)
FULL = "full"  # folder beside the bags of a robot that sees: the same episodes, by the same names, with every state measured
SUFFIXES = (".mcap", ".db3", ".bag")


@dataclass(frozen=True)
class Storage:
    """Where a bag's data lies: `files` hold it, `opens` is what the library is pointed at."""

    path: Path
    files: tuple[Path, ...]
    opens: tuple[Path, ...]
    custom_data: dict[str, str]

    @contextmanager
    def reader(self) -> Iterator[Any]:
        """An open `rosbags` AnyReader. Raises BagError instead of whatever a damaged file makes the library raise."""
        from rosbags.highlevel import AnyReader, AnyReaderError
        from rosbags.rosbag1 import ReaderError as ReaderError1
        from rosbags.rosbag2 import ReaderError as ReaderError2
        from rosbags.serde import SerdeError
        from rosbags.typesys import TypesysError

        broken: tuple[type[Exception], ...] = (
            AnyReaderError,
            ReaderError1,
            ReaderError2,
            SerdeError,
            TypesysError,
            *DAMAGE,
            *_library_errors(),
        )
        try:
            with AnyReader(list(self.opens), default_typestore=typestore()) as reader:
                yield reader
        except BagError:
            raise
        except broken as error:
            raise BagError(f"{self.path}: cannot be read as a bag: {_first_line(error)}") from error


def find_storage(path: Path) -> Storage:
    """Look at what `path` is.

    Raises:
        BagError: when there is no bag, a data file is missing, or an MCAP file was cut off (says how to salvage it).
    """
    if not path.exists():
        raise BagError(f"{path}: there is no such bag")
    if path.is_file():
        if path.suffix not in SUFFIXES:
            raise BagError(f"{path}: is no bag; a bag is a rosbag2 directory or a file ending in {', '.join(SUFFIXES)}")
        storage = Storage(path, (path,), (path,), _embedded_data(path))
    else:
        storage = _directory(path)
    for file in storage.files:
        if file.suffix == ".mcap" and not is_complete(file):
            raise BagError(
                f"{path}: {file.name} is cut off: its recorder was killed or is still writing; "
                f"make a readable copy with: robot-wm bags salvage {path} OUT"
            )
    return storage


def find_bags(path: Path) -> list[Path]:
    """The bags at `path`: itself, or every bag in the folders below it, sorted. Raises BagError when there is none."""
    if path.is_file() or _is_bag(path):
        return [path]
    found = sorted({item for item in path.rglob("*") if _is_bag(item) or (item.suffix in SUFFIXES and item.is_file())})
    bags = [item for item in found if not any(parent in found for parent in item.parents)]
    if not bags:
        raise BagError(f"{path}: there is no bag here or below")
    return bags


def data_files(path: Path) -> tuple[Path, ...]:
    """The data files of a bag, in order, complete or not. Raises BagError when there are none."""
    if path.is_file():
        return (path,)
    listed = _listed_files(path)
    files = listed or tuple(sorted(f for f in path.iterdir() if f.suffix in SUFFIXES))
    if not files:
        raise BagError(f"{path}: holds no bag: neither metadata.yaml nor a file ending in {', '.join(SUFFIXES)}")
    return files


def is_complete(path: Path) -> bool:
    """Whether an MCAP file ends as it should."""
    size = path.stat().st_size
    if size < 2 * len(MCAP_MAGIC):
        return False
    with path.open("rb") as file:
        file.seek(size - len(MCAP_MAGIC))
        return file.read() == MCAP_MAGIC


def custom_data(path: Path) -> dict[str, str]:
    """`custom_data` of a rosbag2 directory, or what the recorder embedded in a bare MCAP file."""
    if path.is_file():
        return _embedded_data(path)
    found = _information(path).get("custom_data") or {}
    if not isinstance(found, dict):
        raise BagError(f"{path / 'metadata.yaml'}: custom_data is no table")
    return {str(key): str(value) for key, value in found.items()}


def _is_bag(path: Path) -> bool:
    return path.is_dir() and (path / "metadata.yaml").is_file()


def _directory(path: Path) -> Storage:
    information, files = _information(path), data_files(path)
    missing = [file.name for file in files if not file.exists()]
    if missing:
        raise BagError(f"{path}: metadata.yaml names {', '.join(missing)}, which is not there")
    # A recorder that was killed just before its last metadata left a complete file that metadata.yaml calls empty.
    opens = (path,) if information.get("message_count") else files
    return Storage(path, files, opens, custom_data(path))


def _information(path: Path) -> dict[str, Any]:
    """The one table of metadata.yaml; empty when there is no such file."""
    metadata = path / "metadata.yaml"
    try:
        information = read_yaml(metadata.read_text())["rosbag2_bagfile_information"]
    except FileNotFoundError:
        return {}
    except (OSError, yaml.YAMLError, UnicodeDecodeError, TypeError, LookupError) as error:
        raise BagError(f"{metadata}: cannot be read: {_first_line(error)}") from error
    if not isinstance(information, dict):
        raise BagError(f"{metadata}: rosbag2_bagfile_information is no table")
    return information


def _listed_files(path: Path) -> tuple[Path, ...]:
    names = _information(path).get("relative_file_paths") or []
    if not isinstance(names, list) or not all(
        isinstance(name, str) and Path(name).suffix in SUFFIXES for name in names
    ):
        raise BagError(
            f"{path / 'metadata.yaml'}: relative_file_paths is no list of files ending in {', '.join(SUFFIXES)}"
        )
    return tuple(path / Path(name).name for name in names)


def _embedded_data(path: Path) -> dict[str, str]:
    """What `BagWriter` put at the head of an MCAP file."""
    if path.suffix != ".mcap":
        return {}
    from mcap.exceptions import McapError
    from mcap.records import Metadata
    from mcap.stream_reader import StreamReader

    with path.open("rb") as file:
        try:
            for _, record in zip(range(8), StreamReader(file, emit_chunks=True).records, strict=False):
                if isinstance(record, Metadata) and record.name == "robot_wm":
                    return dict(record.metadata)
        except (McapError, *DAMAGE):
            return {}
    return {}


def _library_errors() -> tuple[type[Exception], ...]:
    """What decompression and SQLite raise on damaged data; which packages `rosbags` uses for them depends on its version."""
    import sqlite3

    import zstandard

    found: list[type[Exception]] = [sqlite3.Error, zstandard.ZstdError]
    for package, name in (("apsw", "Error"), ("backports.zstd", "ZstdError"), ("compression.zstd", "ZstdError")):
        with suppress(ImportError):
            found.append(getattr(import_module(package), name))
    return tuple(found)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
