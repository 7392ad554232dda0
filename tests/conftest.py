"""Tests run on 8 simulated devices, with strict dtype and rank promotion."""

import os
import shutil
from pathlib import Path

# Before jax is imported, here and in child processes. Most of the time of a test is compilation.
os.environ["JAX_PLATFORMS"] = "cpu"
os.environ["XLA_FLAGS"] = "--xla_backend_optimization_level=0"
# Of each worker its own: what another is still writing cannot be read.
os.environ["JAX_COMPILATION_CACHE_DIR"] = str(
    Path(__file__).parents[1] / ".pytest_cache" / "jax" / os.getenv("PYTEST_XDIST_WORKER", "")
)
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0.3"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 8)
jax.config.update("jax_numpy_dtype_promotion", "strict")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_addoption(parser):
    parser.addoption("--all", action="store_true", help="also run the long fault and soak tests")


def pytest_collection_modifyitems(config, items):
    if not config.getoption("--all"):
        skip = pytest.mark.skip(reason="long: run with --all")
        for item in items:
            if "slow" in item.keywords:
                item.add_marker(skip)


BROWSERS = ("chromium", "chromium-browser", "google-chrome")
QUIET = (  # and without what a browser does beside showing a page
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)


@pytest.fixture(scope="module")  # a session-long one would disturb tests that use asyncio
def browser():
    """A real one, without a window."""
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = next(filter(None, map(shutil.which, BROWSERS)), None)
    if path is None:
        pytest.skip(f"this machine has no browser: {', '.join(BROWSERS)}")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=list(QUIET))
        yield started
        started.close()
