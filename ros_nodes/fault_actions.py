"""How the faults of a campaign are done to a running stack, and undone."""

from __future__ import annotations

import contextlib
import os
import resource
import shutil
import signal
import socket
from dataclasses import dataclass
from pathlib import Path

from robot_wm.bundle import Bundle, load_bundle, write_bundle
from robot_wm.errors import RunError
from robot_wm.store import ModelStore
from ros_nodes.fault_topics import Meddler
from ros_nodes.fault_witness import Witness
from ros_nodes.launcher import Launch

ROOM = 20_000  # bytes that a bag may still grow


class TornBundles:
    """A store whose current bundle is sound until somebody pushes one that is not."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self._sound = load_bundle(bundle)
        self._store = ModelStore(folder / "store")
        self._store.push(self._sound.path)
        self._pushed = 0

    def push(self, how: str) -> None:
        """Make a bundle current that lost something on its way: altered, truncated or missing."""
        self._pushed += 1
        other = self._another()
        self._store.push(other.path)
        stored = self.folder / "store" / "bundles" / other.bundle_id
        victim = max((file for file in stored.rglob("*.onnx")), key=lambda file: file.stat().st_size)
        data = victim.read_bytes()
        if how == "missing":
            victim.unlink()
        else:
            middle = len(data) // 2
            victim.write_bytes(data[:middle] if how == "truncated" else data[:middle] + b"\xa5" + data[middle + 1 :])
        shutil.rmtree(other.path)

    def point_back(self) -> None:
        """The sound bundle is current again."""
        self._store.push(self._sound.path)

    def _another(self) -> Bundle:
        """The same model as a bundle of its own."""

        def fill(directory: Path) -> None:
            shutil.copytree(self._sound.path, directory, dirs_exist_ok=True)
            (directory / "manifest.json").unlink()
            (directory / "note.txt").write_text(str(self._pushed))

        return write_bundle(self.folder / "next", self._sound.manifest, fill)


@dataclass
class Actions:
    """What may be done to one stack. `control`: socket of the emulated hardware."""

    launch: Launch
    witness: Witness
    control: str
    bundles: TornBundles
    meddler: Meddler | None = None

    def kill(self, node: str) -> None:
        """SIGKILL; the supervisor is left to find out."""
        self.launch.supervisor.processes[node].kill()

    def freeze(self, node: str) -> None:
        self.launch.supervisor.freeze(node)

    def thaw(self, node: str) -> None:
        """Harmless where it has ended meanwhile."""
        self.launch.supervisor.thaw(node)

    def replace(self, node: str) -> None:
        """End the node in order and start it again."""
        self.witness.forget(node)
        self.launch.supervisor.restart(node)
        self.launch.session.wait_active([node])

    def kill_watchdog(self) -> None:
        """SIGKILL of motor_node's watchdog process."""
        pid = self.launch.supervisor.processes["motor_node"].pid
        for path in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in path.read_text().split():
                if b"robot_wm.watchdog" in Path(f"/proc/{child}/cmdline").read_bytes():
                    os.kill(int(child), signal.SIGKILL)
                    return
        raise RunError("motor_node has no watchdog process")

    def line(self, text: str) -> None:
        """Tell the emulated hardware what befalls it."""
        with contextlib.closing(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)) as link:
            link.sendto(text.encode(), self.control)

    def prepare(self, topic: str, what: str, source: str) -> None:
        """Find what bad copies are made of, before the fault begins."""
        self.meddler = Meddler(self.launch.session, self.launch.contract, topic, what, source)

    def meddle(self, topic: str, what: str, source: str) -> None:
        if self.meddler is None:
            self.prepare(topic, what, source)

    def stop_meddling(self) -> None:
        if self.meddler is not None:
            self.meddler.close()
            self.meddler = None

    def fill_disk(self) -> None:
        """The newest bag can hardly grow any more."""
        process = self.launch.supervisor.processes["recorder_node"]
        newest = max(self._bags(), key=lambda file: file.stat().st_mtime)
        size = newest.stat().st_size + ROOM
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))

    def push_torn(self, how: str) -> None:
        self.bundles.push(how)

    def point_back(self) -> None:
        self.bundles.point_back()

    def _bags(self) -> list[Path]:
        assert self.launch.stack.bag is not None
        return list(self.launch.stack.bag.parent.glob(f"{self.launch.stack.bag.name}*/*.mcap"))
