"""The model store: bundles by id, and the pointers `current`, `previous` and one per name, changed atomically.

    bundles/<bundle id>/     complete bundles; one that is still being copied has a name with a leading dot
    current, previous        symbolic links to bundles; `previous` is what `rollback` returns to
    names/<name>             the bundle pushed last under its name

A store lies in a local directory or on another machine (`user@host:path`, over ssh).
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from robot_wm.bundle import Bundle, load_bundle
from robot_wm.contract import Contract
from robot_wm.errors import BundleError, StoreError
from robot_wm.store_files import StoreFiles, open_files

Checker = Callable[[Bundle], Any]  # raises BundleError where the bundle does not work on this machine

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_POINTERS = ("current", "previous")


@dataclass(frozen=True)
class Entry:
    """One bundle of a store."""

    bundle_id: str
    name: str
    family: str
    size: str
    contract_hash: str
    metrics: dict[str, Any]
    pointers: tuple[str, ...]  # of current, previous and names/<name>, those that point to it


class ModelStore:
    """Push, pull, list, verify and roll back; every method raises StoreError when the store cannot be reached."""

    def __init__(self, location: str | Path, files: StoreFiles | None = None) -> None:
        """`location`: a directory or `user@host:path`; it is made by the first push."""
        self.location = str(location)
        self._files = open_files(location) if files is None else files

    def list(self) -> tuple[Entry, ...]:
        """Every complete bundle, by name and id."""
        links = self._files.links()
        entries = []
        for bundle_id, text in self._files.manifests().items():
            try:
                data = json.loads(text)
                known = {key: str(data[key]) for key in ("name", "family", "size", "contract_hash")}
                metrics = dict(data.get("metrics", {}))
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                raise StoreError(f"{self.location}: bundle {bundle_id}: manifest.json is malformed: {error}") from error
            pointers = tuple(sorted(pointer for pointer, target in links.items() if target == bundle_id))
            entries.append(Entry(bundle_id=bundle_id, metrics=metrics, pointers=pointers, **known))
        return tuple(sorted(entries, key=lambda entry: (entry.name, entry.bundle_id)))

    def pointer(self, name: str = "current") -> str | None:
        """Id of the bundle that `current` or `previous` points to, or None: one question to the store, cheap to poll."""
        return self._files.links().get(name)

    def resolve(self, reference: str) -> str:
        """Bundle id of `current`, `previous`, a name, an id or its unambiguous beginning (4 characters or more).

        Raises:
            StoreError: there is none, or several; the message lists what is there.
        """
        links = self._files.links()
        pointed = links.get(reference) if reference in _POINTERS else links.get(f"names/{reference}")
        if pointed is not None:
            return pointed
        if reference in _POINTERS:
            raise StoreError(f"{self.location}: has no {reference} bundle; push one first")
        ids = [
            i for i in self._files.manifests() if i == reference or (len(reference) >= 4 and i.startswith(reference))
        ]
        if len(ids) != 1:
            found = ", ".join(f"{e.name} ({e.bundle_id})" for e in self.list()) or "nothing"
            raise StoreError(
                f"{self.location}: {'no' if not ids else 'more than one'} bundle {reference!r}; it holds {found}"
            )
        return ids[0]

    def push(self, bundle: Path | str, check: Checker | None = None) -> Bundle:
        """Verify a bundle, copy it into the store and make it current; the former current one becomes previous.

        A push that breaks off leaves the store as it was.

        Raises:
            BundleError, ContractError: the bundle is damaged, or `check` refuses it.
        """
        found = load_bundle(bundle)
        name, bundle_id = found.manifest.name, found.bundle_id
        if not _NAME.fullmatch(name):
            raise StoreError(
                f"{found.path}: the name {name!r} in manifest.json cannot be a file's name; export it again"
            )
        if check is not None:
            check(found)
        self._files.send(found.path, bundle_id)
        self._files.point(f"names/{name}", bundle_id)
        current = self.pointer("current")
        if current != bundle_id:
            # In this order a break in between leaves `current` valid and nothing to roll back to.
            if current is not None:
                self._files.point("previous", current)
            self._files.point("current", bundle_id)
        return found

    def pull(self, reference: str, path: Path | str, contract: Contract | None = None) -> Bundle:
        """Copy a bundle to the directory `path`, verified; what is there already is replaced as a whole, or kept if it is the same.

        Raises:
            BundleError, ContractError: what arrived is damaged, or was made for another contract.
        """
        path, bundle_id = Path(path), self.resolve(reference)
        with contextlib.suppress(BundleError):  # damaged, as by a power cut: fetched again
            present = load_bundle(path, contract)
            if present.bundle_id == bundle_id:
                return present
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(prefix=f".{path.name}.", dir=path.parent))
        try:
            self._fetch(bundle_id, temporary / path.name, contract)
            if path.exists():
                os.rename(path, temporary / "replaced")
            os.rename(temporary / path.name, path)
        except OSError as error:
            raise StoreError(f"{path}: cannot be written: {error.strerror}") from error
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
        return load_bundle(path, contract)

    def verify(self, reference: str = "current", check: Checker | None = None, contract: Contract | None = None) -> Any:
        """Copy a bundle out of the store, check digests and contract, and return what `check` says of it.

        Raises:
            BundleError, ContractError: it is damaged, or `check` refuses it.
        """
        bundle_id = self.resolve(reference)
        with tempfile.TemporaryDirectory(prefix="robot-wm-verify-") as scratch:
            bundle = self._fetch(bundle_id, Path(scratch) / bundle_id, contract)
            return check(bundle) if check is not None else None

    def rollback(self) -> str:
        """Make the previous bundle current again and return its id. One step: there is no previous one afterwards."""
        links = self._files.links()
        current, previous = links.get("current"), links.get("previous")
        if previous is None or previous == current:
            raise StoreError(
                f"{self.location}: there is no previous bundle to roll back to; push one by its path instead"
            )
        if previous not in self._files.manifests():
            raise StoreError(f"{self.location}: the previous bundle {previous} is no longer in the store")
        self._files.point("current", previous)
        self._files.unpoint("previous")
        return previous

    def _fetch(self, bundle_id: str, target: Path, contract: Contract | None) -> Bundle:
        target.mkdir()
        self._files.receive(bundle_id, target)
        bundle = load_bundle(target, contract)
        if bundle.bundle_id != bundle_id:
            raise StoreError(
                f"{self.location}: what is stored as {bundle_id} is bundle {bundle.bundle_id}: push it again"
            )
        return bundle
