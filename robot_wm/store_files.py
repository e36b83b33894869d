"""Where a model store lies: a local directory, or one on another machine reached with plain `ssh` and `tar`."""

from __future__ import annotations

import io
import os
import re
import shlex
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Protocol

from robot_wm.bundle import file_digest, sync_to_disk
from robot_wm.errors import StoreError

SSH_TIMEOUT_S = 120.0
_REMOTE = re.compile(r"(?P<host>[A-Za-z0-9_][A-Za-z0-9_.@-]*|[A-Za-z0-9_.-]+@\[[0-9a-fA-F:]+\]):(?P<path>.*)")


class StoreFiles(Protocol):
    """The few file operations a store needs; every path is relative to the store. All raise StoreError."""

    def manifests(self) -> dict[str, bytes]:
        """Bundle id → text of its manifest.json, for every complete bundle."""
        ...

    def links(self) -> dict[str, str]:
        """Every pointer (`current`, `previous`, `names/<name>`) → the bundle id it points to."""
        ...

    def point(self, pointer: str, bundle_id: str) -> None:
        """Make `pointer` point to the bundle, atomically."""
        ...

    def unpoint(self, pointer: str) -> None:
        """Remove a pointer; nothing happens when there is none."""
        ...

    def send(self, source: Path, bundle_id: str) -> None:
        """Copy the directory `source` into the store: to a temporary name, checked there, then renamed."""
        ...

    def receive(self, bundle_id: str, target: Path) -> None:
        """Copy a bundle's files into the existing directory `target`."""
        ...


def open_files(location: str | Path) -> StoreFiles:
    """Tell `user@host:path` from a local directory and return what works on it."""
    match = _REMOTE.fullmatch(str(location)) if isinstance(location, str) else None
    if match is None:
        return LocalFiles(Path(location))
    return SshFiles(match["host"], match["path"].removeprefix("~/") or ".")


class LocalFiles:
    """A store in a local directory."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def __str__(self) -> str:
        return str(self.root)

    def manifests(self) -> dict[str, bytes]:
        found = sorted(self.root.glob("bundles/[!.]*/manifest.json"))
        try:
            return {file.parent.name: file.read_bytes() for file in found}
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be read: {error.strerror}") from error

    def links(self) -> dict[str, str]:
        found = [self.root / "current", self.root / "previous", *self.root.glob("names/[!.]*")]
        return {str(f.relative_to(self.root)): Path(os.readlink(f)).name for f in found if f.is_symlink()}

    def point(self, pointer: str, bundle_id: str) -> None:
        link = self.root / pointer
        fresh = link.parent / f".{link.name}.{os.getpid()}"
        try:
            link.parent.mkdir(parents=True, exist_ok=True)
            fresh.unlink(missing_ok=True)
            fresh.symlink_to(_target(pointer, bundle_id))
            os.replace(fresh, link)
        except OSError as error:
            raise StoreError(f"{self.root}: cannot set {pointer}: {error.strerror}") from error

    def unpoint(self, pointer: str) -> None:
        try:
            (self.root / pointer).unlink(missing_ok=True)
        except OSError as error:
            raise StoreError(f"{self.root}: cannot remove {pointer}: {error.strerror}") from error

    def send(self, source: Path, bundle_id: str) -> None:
        final = self.root / "bundles" / bundle_id
        if final.is_dir():
            return
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
            incoming = Path(tempfile.mkdtemp(prefix=f".incoming-{bundle_id}-", dir=final.parent))
        except OSError as error:
            raise StoreError(f"{self.root}: cannot be written: {error.strerror}") from error
        try:
            shutil.copytree(source, incoming, dirs_exist_ok=True)
            differing = [name for name, value in _digests(source).items() if file_digest(incoming / name) != value]
            if differing:
                raise StoreError(f"{self.root}: the copy of {differing[0]} differs from {source}: push it again")
            incoming.chmod(0o755)
            for file in incoming.rglob("*"):
                sync_to_disk(file)
            os.rename(incoming, final)
        except (OSError, shutil.Error) as error:
            raise StoreError(f"{self.root}: the copy of {source} failed: {error}") from error
        finally:
            shutil.rmtree(incoming, ignore_errors=True)

    def receive(self, bundle_id: str, target: Path) -> None:
        try:
            shutil.copytree(self.root / "bundles" / bundle_id, target, dirs_exist_ok=True)
        except (OSError, shutil.Error) as error:
            raise StoreError(f"{self.root}: bundle {bundle_id} cannot be copied: {error}") from error


class SshFiles:
    """A store on another machine: `ssh` in batch mode with a POSIX shell, `tar` and `sha256sum` there."""

    def __init__(self, host: str, root: str) -> None:
        self.host = host
        self.root = root

    def __str__(self) -> str:
        return f"{self.host}:{self.root}"

    def manifests(self) -> dict[str, bytes]:
        script = 'set -- bundles/*/manifest.json; [ -e "$1" ] || exit 0; tar -cf - "$@"'
        data = self._run(script, "list the bundles")
        if not data:
            return {}
        return {PurePosixPath(name).parent.name: text for name, text in _untar(data, str(self)).items()}

    def links(self) -> dict[str, str]:
        script = 'for f in current previous names/*; do [ -L "$f" ] && echo "$f $(readlink "$f")"; done; true'
        lines = self._run(script, "read the pointers").decode(errors="replace").splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if " " in line)
        return {pointer: PurePosixPath(target).name for pointer, target in pairs}

    def point(self, pointer: str, bundle_id: str) -> None:
        folder, name = os.path.split(pointer)
        fresh = shlex.quote(os.path.join(folder, f".{name}."))
        script = (
            f"ln -sfn {shlex.quote(_target(pointer, bundle_id))} {fresh}$$ && mv -fT {fresh}$$ {shlex.quote(pointer)}"
        )
        self._run(f"mkdir -p ./{shlex.quote(folder)} && {script}", f"set {pointer}")

    def unpoint(self, pointer: str) -> None:
        self._run(f"rm -f {shlex.quote(pointer)}", f"remove {pointer}")

    def send(self, source: Path, bundle_id: str) -> None:
        digests = _digests(source)
        lines = "".join(f"{value}  {name}\n" for name, value in digests.items())
        final, incoming = f"bundles/{bundle_id}", f"bundles/.incoming-{bundle_id}-$$"
        script = (
            f'[ -d {final} ] && exec cat >/dev/null; t={incoming}; trap \'rm -rf "$t"\' EXIT; mkdir -p "$t" && tar -xf - -C "$t"'
            f' && (cd "$t" && printf %s {shlex.quote(lines)} | sha256sum -c - >/dev/null)'
            f' && find "$t" -type f -exec sync {{}} + && mv "$t" {final}'
        )
        self._run(script, f"push {bundle_id}", _tar(source, list(digests)), create=True)

    def receive(self, bundle_id: str, target: Path) -> None:
        data = self._run(f"tar -cf - -C bundles/{shlex.quote(bundle_id)} .", f"pull {bundle_id}")
        for name, content in _untar(data, str(self)).items():
            file = target / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(content)

    def _run(self, script: str, what: str, stdin: bytes = b"", create: bool = False) -> bytes:
        """Run a shell script in the store's directory and return its output."""
        root = shlex.quote(self.root if self.root.startswith("/") else f"./{self.root}")
        enter = f"mkdir -p {root} && cd {root}" if create else f"cd {root}"
        command = ["ssh", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "--", self.host]
        try:
            done = subprocess.run(
                [*command, f"sh -c {shlex.quote(f'{enter} && {{ {script}; }}')}"],
                input=stdin,
                capture_output=True,
                timeout=SSH_TIMEOUT_S,
                check=False,
            )
        except FileNotFoundError as error:
            raise StoreError(f"{self}: needs the program ssh, which is not installed here") from error
        except subprocess.TimeoutExpired as error:
            raise StoreError(f"{self}: cannot {what}: no answer in {SSH_TIMEOUT_S:g} s") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip().splitlines()
            raise StoreError(f"{self}: cannot {what}: {said[-1] if said else f'ssh exited {done.returncode}'}")
        return done.stdout


def _target(pointer: str, bundle_id: str) -> str:
    return os.path.join(*[".."] * pointer.count("/"), "bundles", bundle_id)


def _digests(directory: Path) -> dict[str, str]:
    return {str(f.relative_to(directory)): file_digest(f) for f in sorted(directory.rglob("*")) if f.is_file()}


def _tar(directory: Path, names: list[str]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            archive.add(directory / name, arcname=name, recursive=False)
    return buffer.getvalue()


def _untar(data: bytes, source: str) -> dict[str, bytes]:
    """The regular files of an archive by name; a name that leaves the directory is refused."""
    files = {}
    try:
        with tarfile.open(fileobj=io.BytesIO(data)) as archive:
            for member in archive:
                path = PurePosixPath(member.name)
                if path.is_absolute() or ".." in path.parts:
                    raise StoreError(f"{source}: sent a file outside the bundle: {member.name}")
                content = archive.extractfile(member) if member.isfile() else None
                if content is not None:
                    files[str(path)] = content.read()
    except (tarfile.TarError, EOFError) as error:
        raise StoreError(f"{source}: the copy broke off: {error}") from error
    return files
