"""The pages: their code runs, their site builds without a warning, and no module is left out."""

import os
import pkgutil
import re
import subprocess
import sys
from pathlib import Path

import pytest

import diffusion_jax
import diffussm_jax
import rin_jax

ROOT = Path(__file__).parents[1]
PAGES = ["README.md", *sorted(f"docs/{path.name}" for path in (ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"^```(python|bash)(?: title=\"([\w.]+)\")?\n(.*?)^```$", re.MULTILINE | re.DOTALL
)
WITH_CODE = [page for page in PAGES if BLOCK.search((ROOT / page).read_text())]


@pytest.mark.parametrize("page", WITH_CODE)
def test_the_code_of_a_page_runs_from_top_to_bottom(page, tmp_path, monkeypatch):
    """A block with a title is a file of that name."""
    from diffusion_jax.sampling.samplers import SAMPLERS

    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(SAMPLERS, "noisy_ddim", None)  # removed again afterwards
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.syspath_prepend(tmp_path)
    text = (ROOT / page).read_text()
    namespace = {"__name__": "page"}
    for block in BLOCK.finditer(text):
        language, title, code = block.groups()
        if title:
            Path(title).write_text(code)
        elif language == "bash":
            subprocess.run(["bash", "-ec", code], check=True)
        else:
            line = text[: block.start(3)].count("\n")
            exec(compile("\n" * line + code, ROOT / page, "exec"), namespace)


def test_the_site_builds_without_a_warning(tmp_path):
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", f"--site-dir={tmp_path}"]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}  # of the theme, about its successor
    built = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stderr
    assert "WARNING" not in built.stderr
    assert 'src="digits.png"' in (tmp_path / "index.html").read_text()


def test_every_module_is_in_the_api():
    text = "\n".join(page.read_text() for page in (ROOT / "docs" / "api").glob("*.md"))
    for package in (rin_jax, diffussm_jax, diffusion_jax):
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            assert module.ispkg or f"::: {module.name}\n" in text, module.name
