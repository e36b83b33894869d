"""What to say about a task name that does not exist."""

import difflib


def unknown_task(name: str, known: list[str]) -> str:
    """One sentence for a name that no task has."""
    near = difflib.get_close_matches(name, known, n=5, cutoff=0.4) or known[:8]
    return f"no task {name!r}; nearest: {', '.join(near)}"
