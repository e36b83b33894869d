"""Evaluations side by side: each in a process of its own, the results in the order in which they were asked for."""

from __future__ import annotations

import multiprocessing
import os
import threading
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

ORPHANED_S = 1.0  # between looks whether the process that waits for the results is still there


def side_by_side(
    work: Callable[[Item], Result],
    items: Iterable[Item],
    jobs: int,
    report: Callable[[Result], None] = lambda result: None,
) -> list[Result]:
    """`work` of each item, `jobs` at a time, all of it picklable. `report` gets each result as it is done.

    The first error is raised here; what had not begun by then never does. Whatever ends this process ends the others.
    """
    done: dict[int, Result] = {}
    spawn = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(jobs, mp_context=spawn, initializer=_end_with, initargs=(os.getpid(),)) as pool:
        try:
            futures = {pool.submit(work, item): index for index, item in enumerate(items)}
            for future in as_completed(futures):
                done[futures[future]] = future.result()
                report(future.result())
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    return [done[index] for index in sorted(done)]


def _end_with(parent: int) -> None:
    """End this process when it is no longer the child of `parent`: a killed one cannot tell its workers to."""

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(ORPHANED_S)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
