"""A camera of a MuJoCo scene, drawn without a display (MUJOCO_GL: egl, on a GPU or in software, or osmesa)."""

from __future__ import annotations

import atexit
import os
from typing import Any
from weakref import WeakSet

import numpy as np

from robot_wm.errors import RunError
from robot_wm.images import Pixels, Shape
from robot_wm.messages import FloatArray

SHADOW_MAP = 1024  # a software renderer spends most of its time on shadows
_opened: WeakSet[Any] = WeakSet()


def open_renderer(model: Any, height: int, width: int) -> Any:
    """A mujoco.Renderer without shadows and reflections.

    Raises:
        RunError: this machine has no OpenGL that can draw without a display.
    """
    os.environ.setdefault("LP_NUM_THREADS", "1")  # of a software renderer, read at its start: it would take every core
    import mujoco

    model.vis.quality.shadowsize = SHADOW_MAP
    try:
        renderer = mujoco.Renderer(model, height, width)
    except (ImportError, AttributeError, RuntimeError, mujoco.FatalError) as error:  # PyOpenGL raises any of them
        platform = os.environ.get("MUJOCO_GL", "the default")
        raise RunError(f"OpenGL ({platform}) cannot draw here: {error}; install libegl1 or set MUJOCO_GL") from error
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
    renderer.scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
    _opened.add(renderer)
    close_renderers_first()
    return renderer


def close_renderers_first() -> None:
    """Close all renderers at the end before whoever has registered by now ends EGL under them, as MuJoCo and dm_control do."""
    atexit.unregister(_close_renderers)
    atexit.register(_close_renderers)


def _close_renderers() -> None:
    for renderer in list(_opened):
        renderer.close()


class Camera:
    """Takes pictures of a scene with one of its cameras; OpenGL is opened with the first one."""

    def __init__(self, model: Any, name: str, shape: Shape) -> None:
        self._model = model
        self._name = name
        self._shape = shape
        self._renderer: Any = None

    def capture(self, qpos: FloatArray) -> Pixels:
        """What it sees (H, W, C) at these generalised positions; the scene's own state is not touched, so physics is not either.

        Raises:
            RunError: as `open_renderer`.
        """
        import mujoco

        height, width, channels = self._shape
        if self._renderer is None:
            self._renderer = open_renderer(self._model, height, width)
            self._data = mujoco.MjData(self._model)
        self._data.qpos[:] = qpos
        mujoco.mj_forward(self._model, self._data)
        self._renderer.update_scene(self._data, camera=self._name)
        pixels = self._renderer.render()
        if channels == 1:
            pixels = pixels.mean(axis=2, keepdims=True)
        return np.array(pixels, np.uint8)
