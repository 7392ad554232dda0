"""Several runs on one page, by the command."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import tiny

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.digit_scores import DigitScores, DigitTable
from diffusion_jax.evaluation.results import Result, write_result
from diffusion_jax.reporting.grids import save_grid
from launch.common.report import page_of

ROOT = Path(__file__).parents[2]


def run(folder: Path, losses: list[float], fid: float, **changes: object) -> Path:
    """A run directory as training and scoring leave it."""
    (folder / "samples" / "a").mkdir(parents=True)
    (folder / "config.json").write_text(tiny.config(**changes).to_json())
    (folder / "run.json").write_text('{"config": "rin/cifar10"}')
    records = [{"step": 10 * i + 10, "loss": loss} for i, loss in enumerate(losses)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    save_grid(folder / "grids" / "00000010.png", np.zeros((9, 9, 3), np.uint8))
    save_grid(folder / "grids" / "00000030.png", np.full((9, 9, 3), 9, np.uint8))
    result = Result(config="rin/cifar10", command="", metrics={"fid": fid}, counts={"samples": 500})
    write_result(folder / "samples" / "a" / "results.json", result)
    DigitTable(30, 500, {"samples": DigitScores(fid / 10, 0.1, 1.0)}).write(folder)
    return folder


@pytest.fixture
def runs(tmp_path) -> list[Path]:
    """Two that differ in their learning rate and size, and share the name of their folder."""
    changes = dict(optimizer__learning_rate=0.25, model__latent_dim=32)
    first = run(tmp_path / "a" / "rin", [3.0, 2.0, 1.0], 2.5)
    return [first, run(tmp_path / "b" / "rin", [4.0, 3.0], 3.5, **changes)]


def text_of(page: str) -> str:
    return re.sub(r"\s*\n\s*", "", page.replace("<wbr>", ""))


def test_curves_results_configs_and_grids_stand_side_by_side(runs, tmp_path):
    out, folders = tmp_path / "ab.html", ",".join(map(str, runs))
    command = [sys.executable, "-m", "launch.report", f"--workdir={folders}"]
    for arguments, status, said in (
        ([], 2, "error: several runs are given: say with --out=FILE where to write their page\n"),
        ([f"--out={out}"], 0, f"Written: {out}\n"),
    ):
        done = subprocess.run(
            [*command, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=300
        )
        assert (done.returncode, done.stdout + done.stderr) == (status, said)
    page = text_of(out.read_text())
    data = json.loads(re.search(r'data-curve="([^"]+)"', page)[1].replace("&#34;", '"'))
    assert data["steps"] == [10, 20, 30]
    lines = {line["name"]: line["values"] for line in data["lines"]}
    assert lines == {"a/rin": [3, 2, 1], "b/rin": [4, 3, None]}
    assert "<td>30 of 6 steps, no checkpoint</td><td>20 of 6 steps, no checkpoint</td>" in page
    config = page[page.index("<h2>Configuration") :]
    assert re.findall(r'<th scope="row">(.*?)</th><td>(.*?)</td><td>(.*?)</td>', config) == [
        ("model.latent_dim", "16", "32"),
        ("optimizer.learning_rate", str(tiny.config().optimizer.learning_rate), "0.25"),
    ]
    for name, fid in (("a/rin", "2.50"), ("b/rin", "3.50")):
        assert f"<td>{fid}</td>" in page and f"<td>{name}/samples/a</td>" in page
        assert f'alt="Samples of {name} after step 30"' in page
    assert "<td>1.81</td>" in page  # the paper's
    assert '<th scope="row">b/rin</th><td>samples</td><td>35.0%</td>' in page


def test_runs_of_one_config_say_so_and_no_run_is_given_twice(runs):
    first, other = runs
    (other / "config.json").write_text((first / "config.json").read_text())
    assert "The configs of these runs are the same" in page_of(runs)
    with pytest.raises(UserError, match=f"--workdir has {first} twice"):
        page_of([first, first / "." / ".." / "rin"])
    with pytest.raises(UserError, match="none holds no run"):
        page_of([first, first.parent / "none"])


def test_a_browser_shows_every_line_in_its_own_colour(browser, runs, tmp_path):
    (tmp_path / "page.html").write_text(page_of(runs))
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    problems = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto((tmp_path / "page.html").as_uri())
    figure = page.locator("figure.curve").first
    colours = figure.locator(".u-marker").evaluate_all("all => all.map(e => e.style.borderColor)")
    assert len(set(filter(None, colours))) == 2
    assert page.locator("img:visible").count() == 2
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert problems == []
    page.close()
