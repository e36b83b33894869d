"""YAML from files that anybody may have edited: what PyYAML's constructors let through becomes a YAMLError."""

from __future__ import annotations

from typing import Any

import yaml

# A month 13, a number of more digits than Python takes, `!!bool maybe`, a thousand opening brackets.
ESCAPES = (ValueError, KeyError, AttributeError, TypeError, OverflowError, RecursionError)


def read_yaml(text: str) -> Any:
    """Plain data. Raises yaml.YAMLError, whatever is wrong with the text."""
    try:
        return yaml.safe_load(text)
    except ESCAPES as error:
        raise yaml.YAMLError(f"a value cannot be read: {str(error) or type(error).__name__}") from error
