"""Builds and loads models/kernels.c: with the machine's C compiler, once, into the user's cache."""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import platform
import shutil
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

SOURCE = Path(__file__).with_name("kernels.c")
FLAGS = (
    *("-O3", "-fPIC", "-shared", "-std=gnu11", "-ffp-contract=fast"),
    # Reassociation vectorises sums; not -ffast-math, which would hide numbers that are not finite.
    *("-fno-math-errno", "-fno-trapping-math", "-fassociative-math", "-fno-signed-zeros", "-freciprocal-math"),
)
TIMEOUT_S = 120

_POINTER, _LONG, _INT, _FLOAT = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int, ctypes.c_float
SIGNATURES = {
    "norm_forward": [*[_POINTER] * 7, *[_LONG] * 3, _INT, _INT],
    "norm_backward": [*[_POINTER] * 11, *[_LONG] * 3, _INT],
    "two_hot_forward": [*[_POINTER] * 4, *[_LONG] * 3, _FLOAT, _INT],
    "two_hot_backward": [*[_POINTER] * 5, *[_LONG] * 3, _FLOAT, _INT],
    "expectation_forward": [*[_POINTER] * 4, *[_LONG] * 2, _FLOAT, _INT],
    "expectation_backward": [*[_POINTER] * 5, *[_LONG] * 2, _FLOAT, _INT],
}

log = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def library() -> ctypes.CDLL | None:
    """The compiled kernels, or None (with one warning that says why) where they cannot be built: training is slower then."""
    try:
        found = _load()
    except subprocess.CalledProcessError as error:
        _warn(error.stderr)
        return None
    except (OSError, subprocess.TimeoutExpired) as error:
        _warn(str(error))
        return None
    for name, arguments in SIGNATURES.items():
        getattr(found, name).argtypes = arguments
        getattr(found, name).restype = ctypes.c_int
    return found


@lru_cache(maxsize=1)
def keep_memory() -> None:
    """Let glibc keep freed memory: an update frees and takes the same few MB, and giving them back costs a tenth of its time."""
    trim_threshold, mmap_threshold = -1, -3  # mallopt(3)
    libc = ctypes.CDLL(None)
    if hasattr(libc, "gnu_get_libc_version"):
        libc.mallopt(trim_threshold, 1 << 30)
        libc.mallopt(mmap_threshold, 1 << 25)


def _warn(why: str) -> None:
    said = (why.strip().splitlines() or ["no reason given"])[-1]
    log.warning("training without fused kernels, about half as fast: models/kernels.c cannot be built: %s", said)


def _load() -> ctypes.CDLL:
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise OSError("there is no C compiler; install gcc or clang, or set CC")
    openmp = _loaded_openmp()
    native = ["-mcpu=native"] if platform.machine() == "aarch64" else ["-march=native", "-mprefer-vector-width=512"]
    command = [*compiler.split(), *FLAGS, *native, *(["-fopenmp"] if openmp else [])]
    key = hashlib.sha256("\0".join([*command, SOURCE.read_text(), _processor()]).encode()).hexdigest()[:16]
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "robot_wm" / "kernels"
    target = cache / f"{key}.so"
    if not target.is_file():
        cache.mkdir(parents=True, exist_ok=True)
        _build(command, target)
    if openmp:
        ctypes.CDLL(openmp, mode=ctypes.RTLD_GLOBAL)
    return ctypes.CDLL(str(target))


def _build(command: list[str], target: Path) -> None:
    """Compile to an object, then link without an OpenMP library: its symbols come from the one PyTorch has loaded."""
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        part, whole = Path(folder) / "kernels.o", Path(folder) / "kernels.so"
        compile_only = [flag for flag in command if flag != "-shared"]
        link = [word for word in command if word != "-fopenmp"]
        for step in ([*compile_only, "-c", str(SOURCE), "-o", str(part)], [*link, str(part), "-o", str(whole), "-lm"]):
            subprocess.run(step, check=True, capture_output=True, text=True, timeout=TIMEOUT_S)
        os.replace(whole, target)


def _loaded_openmp() -> str:
    """Path of the OpenMP library in this process; a second one would fight it for the cores. Empty: use one thread."""
    maps = Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.is_file() else []
    paths = {line.split(maxsplit=5)[-1] for line in lines if "/" in line}
    found = sorted(path for path in paths if any(name in Path(path).name for name in ("libgomp", "libiomp", "libomp")))
    return next((path for path in found if "torch" in path), found[0] if found else "")


def _processor() -> str:
    """What -march=native depends on: a cache may be shared by several machines."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    return "\n".join(
        sorted({line for line in lines if line.startswith(("model name", "flags", "Features", "CPU part"))})
    )
