"""What the tests of all rooms share: one real stack a test process, started by the first test that asks for it."""

import os

import pytest

from mcti.local import stack


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """A stack of its own in a folder with a space in its name, on free ports; stopped by pid at the end."""
    root = tmp_path_factory.mktemp("a stack")
    before = dict(os.environ)
    try:
        yield stack.up(root)
    finally:
        stack.down(root)
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def servers_of(running):
    """The environment of this process points at the running stack while the test lasts."""
    from pathlib import Path

    from mcti.local import settings

    before = dict(os.environ)
    settings.activate(Path(running.folder).parent, force=True)
    yield running
    os.environ.clear()
    os.environ.update(before)
