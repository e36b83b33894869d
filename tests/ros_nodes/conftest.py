import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def domain(tmp_path, monkeypatch):
    """A ROS domain of our own, in the environment."""
    from ros_nodes.processes import free_domain, local_environment

    with free_domain() as number:
        for name, value in local_environment(number, tmp_path).items():
            monkeypatch.setenv(name, value)
        yield number
