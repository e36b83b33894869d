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
from robot_wm.store_files import open_files
from ros_nodes.fault_topics import Meddler
from ros_nodes.fault_witness import Witness
from ros_nodes.launcher import Launch

ROOM = 20_000  # bytes that a bag may still grow


class TornBundles:
    """A store whose current bundle is sound until somebody points it to one that is not."""

    def __init__(self, folder: Path, bundle: Path) -> None:
        self.folder = folder
        self._sound = load_bundle(bundle)
        self._files = open_files(folder / "store")
        ModelStore(folder / "store", self._files).push(self._sound.path)
        self._torn = ""  # id
        self._made = 0

    def tear(self, how: str) -> None:
        """Put a new bundle into the store that lost something on its way: altered, truncated or missing."""
        self._made += 1
        other = self._another()
        self._files.send(other.path, other.bundle_id)
        shutil.rmtree(other.path)
        stored = self.folder / "store" / "bundles" / other.bundle_id
        victim = max(stored.rglob("*.onnx"), key=lambda file: file.stat().st_size)
        data = victim.read_bytes()
        middle = len(data) // 2
        if how == "missing":
            victim.unlink()
        elif how == "truncated":
            victim.write_bytes(data[:middle])
        else:
            victim.write_bytes(data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :])
        self._torn = other.bundle_id

    def point(self) -> None:
        """The torn bundle is current."""
        self._files.point("current", self._torn)

    def point_back(self) -> None:
        """The sound one is current again, and the torn one is gone."""
        self._files.point("current", self._sound.bundle_id)
        shutil.rmtree(self.folder / "store" / "bundles" / self._torn)

    def _another(self) -> Bundle:
        """The same model as a bundle of its own."""

        def fill(directory: Path) -> None:
            shutil.copytree(self._sound.path, directory, dirs_exist_ok=True)
            (directory / "manifest.json").unlink()
            (directory / "note.txt").write_text(str(self._made))

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

    def listen(self, topic: str, what: str, source: str) -> None:
        """Get ready to publish on a topic; nothing is published yet."""
        self.meddler = Meddler(self.launch.session, self.launch.contract, topic, what, source)

    def publish(self) -> None:
        """One more bad message, where there is somebody to publish it."""
        if self.meddler is not None:
            self.meddler.publish()

    def stop_publishing(self) -> None:
        if self.meddler is not None:
            self.meddler.close()
            self.meddler = None

    def fill_disk(self) -> None:
        """The newest bag can hardly grow any more."""
        process = self.launch.supervisor.processes["recorder_node"]
        newest = max(self._bags(), key=lambda file: file.stat().st_mtime)
        size = newest.stat().st_size + ROOM
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (size, size))

    def _bags(self) -> list[Path]:
        assert self.launch.stack.bag is not None
        return list(self.launch.stack.bag.parent.glob(f"{self.launch.stack.bag.name}*/*.mcap"))
