"""Fixtures of all tests: one real stack per test process, started by the first test that uses it."""

import inspect
import os
import sys
from pathlib import Path

import pytest

from mcti.local import stack
from tests import preloaded as preloading

os.environ["DVC_NO_ANALYTICS"] = "1"  # no test uses the network, under plain pytest, too
# The processes that tests start import compiled modules, also where an image forbids to write them (Makefile).
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False
TESTS = Path(__file__).parent
LONGEST_FIRST = ("container", "stack", "slow")


def pytest_collection_modifyitems(items):
    """Files with containers, then with servers, then with other slow tests: parallel workers end at about one time."""
    ranks: dict[Path, int] = {}
    for item in items:
        rank = _rank(item)
        ranks[item.path] = min(rank, ranks.get(item.path, rank))
    items.sort(key=lambda item: ranks[item.path])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item):
    """Only fast tests of `mcti` and their fixtures are traced: tracing takes 1.3 to 3.4 times the processor time."""
    plugin = item.config.pluginmanager.getplugin("_cov")
    controller = getattr(plugin, "cov_controller", None)
    if controller is None or (_rank(item) == len(LONGEST_FIRST) and _mirrors(item.path)):
        return (yield)
    controller.pause()
    try:
        return (yield)
    finally:
        controller.resume()


def _mirrors(path):
    """Whether a test file is about a package or module of `mcti`; others test documents, manifests and benchmarks."""
    part = path.relative_to(TESTS).parts[0].removeprefix("test_")
    return (TESTS.parent / "mcti" / part).exists()


def _rank(item):
    """Place of the longest mark of a test in LONGEST_FIRST; of a fast test, the number of marks."""
    return next((n for n, mark in enumerate(LONGEST_FIRST) if item.get_closest_marker(mark)), len(LONGEST_FIRST))


def _stack_without_source(context=1):
    """As inspect.stack(), without looking for the source of each frame."""
    frame, frames = sys._getframe(1), []
    while frame is not None:
        code = frame.f_code
        frames.append(inspect.FrameInfo(frame, code.co_filename, frame.f_lineno, code.co_name, None, None))
        frame = frame.f_back
    return frames


@pytest.fixture(scope="session", autouse=True)
def stacks_without_source():
    """kfp reads the call stack about 500 times per pipeline, and uses one name of it.

    For a frame without a file, as a worker of pytest-xdist has some, Python then searches all loaded modules: minutes
    per pipeline in a process that has imported what other tests need.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(inspect, "stack", _stack_without_source)
        yield


@pytest.fixture(scope="module", autouse=True)
def no_configured_servers():
    """No test connects to services that the environment names, or that an earlier module started."""
    before = dict(os.environ)
    for name in [name for name in before if name.startswith(("AWS_", "MLFLOW_TRACKING_", "MLFLOW_RUN_", "MCTI_RUN"))]:
        del os.environ[name]
    yield
    os.environ.clear()
    os.environ.update(before)


@pytest.fixture(scope="session")
def running(tmp_path_factory):
    """A stack of its own in a folder with a space in its name, on free ports; stopped by pid at the end."""
    root = tmp_path_factory.mktemp("a stack")
    before = dict(os.environ)
    try:
        started = stack.up(root)
        os.environ.clear()  # `stack.up` sets the addresses in this process; tests that need them use `servers_of`
        os.environ.update(before)
        yield started
    finally:
        stack.down(root)


@pytest.fixture(scope="session")
def preloaded():
    """A folder of programs whose `mcti`, `dvc` and `python` start with their libraries imported."""
    with preloading.programs() as folder:
        yield folder


@pytest.fixture
def servers_of(running):
    """The environment of this process names the running stack during the test."""
    from mcti.local import settings

    before = dict(os.environ)
    settings.activate(Path(running.folder).parent, force=True)
    yield running
    os.environ.clear()
    os.environ.update(before)
