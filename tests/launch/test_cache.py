"""Compiled programs are kept where they should be, and nowhere else."""

import jax
import jax.numpy as jnp
import pytest

from diffusion_jax.compilation.cache import cached_in, keep_programs

OPTIONS = (
    "jax_enable_compilation_cache",
    "jax_compilation_cache_dir",
    "jax_persistent_cache_min_compile_time_secs",
)


@pytest.mark.parametrize("kept", [True, False])
def test_a_program_is_kept_in_the_folder_or_not_at_all(tmp_path, kept):
    before = {name: getattr(jax.config, name) for name in OPTIONS}
    with cached_in(str(tmp_path) if kept else None):
        jax.jit(lambda x: jnp.sin(x) + len(OPTIONS)).lower(jnp.ones(3)).compile()
    assert bool(list(tmp_path.iterdir())) == kept
    assert {name: getattr(jax.config, name) for name in OPTIONS} == before


def test_the_users_cache_unless_another_is_given(tmp_path, monkeypatch):
    given = jax.config.jax_compilation_cache_dir
    keep_programs()
    assert jax.config.jax_compilation_cache_dir == given  # by tests/conftest.py
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    jax.config.update("jax_compilation_cache_dir", None)
    try:
        keep_programs()
        assert jax.config.jax_compilation_cache_dir == str(tmp_path / "rin_diffussm_jax")
    finally:
        jax.config.update("jax_compilation_cache_dir", given)
