"""Where compiled programs are kept, so that the same program is compiled once on a machine."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import jax
from jax.experimental.compilation_cache import compilation_cache


def keep_programs() -> None:
    """Keep programs that took over a second, in JAX_COMPILATION_CACHE_DIR or the user's cache."""
    if jax.config.jax_compilation_cache_dir is None:  # type: ignore[attr-defined]
        home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
        jax.config.update("jax_compilation_cache_dir", str(Path(home) / "rin_diffussm_jax"))


@contextlib.contextmanager
def cached_in(folder: str | None) -> Iterator[None]:
    """Keep all programs in a folder while the context lasts, or with None keep none."""
    changed = {
        "jax_enable_compilation_cache": folder is not None,
        "jax_compilation_cache_dir": folder,
        "jax_persistent_cache_min_compile_time_secs": 0.0,
    }
    before = {name: getattr(jax.config, name) for name in changed}
    _update(changed)
    try:
        yield
    finally:
        _update(before)


def _update(options: dict) -> None:
    for name, value in options.items():
        jax.config.update(name, value)
    compilation_cache.reset_cache()  # it asks the options once
