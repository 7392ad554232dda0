"""The report says what a run did, whatever state it is in, and works in a real browser."""

import json
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import processes
import pytest
import tiny
from PIL import Image

from diffusion_jax.errors import UserError
from diffusion_jax.evaluation.results import Result, write_result
from diffusion_jax.experiment.training import Outcome
from diffusion_jax.reporting.pictures import Picture, save_picture
from launch.common.report import write_report
from launch.train import summary

ROOT = Path(__file__).parents[2]
COMMAND = "python -m launch.train --config=configs/rin/digits.py --config.train.steps=6"
HOSTILE = "<script>document.title='x'</script>\"'&"


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Path:
    """A run of six steps with three grids, by the command itself."""
    workdir = tmp_path_factory.mktemp("finished")
    training = processes.training(train__grid_every=2, train__grid_size=20)
    (printed,) = processes.finish(processes.start(1, 8, *training, f"--workdir={workdir}"))
    names = re.findall(r"^  (\S+)", printed[printed.index("Done: 6 steps") :], re.MULTILINE)
    assert {"report.html", "checkpoints/", "grids/", "config.json"} < set(names)
    assert all((workdir / name).exists() for name in names)
    about = json.loads((workdir / "run.json").read_text())
    assert about["command"] == shlex.join(["python", "-m", *training, f"--workdir={workdir}"])
    (workdir / "run.json").write_text(json.dumps(about | {"command": COMMAND}))
    return workdir


@pytest.fixture
def run(finished, tmp_path) -> Path:
    """A copy of it, to be changed."""
    return shutil.copytree(finished, tmp_path / "run")


def page_of(workdir: Path) -> str:
    """As text to be searched: without the places where it may break."""
    text = write_report(workdir).read_text().replace("<wbr>", "")
    return re.sub(r"</?span>", "", text)


def row(field: str, ours: object, other: object) -> str:
    return f">{field}</code></th><td>{ours}</td><td>{other}</td></tr>"


def sections(page: str) -> list[str]:
    return re.findall(r"<h2>(.*)</h2>", page)


def test_training_writes_it_at_its_end(finished):
    page = (finished / "report.html").read_text()
    assert "Finished</b>: 6 of 6 steps" in page
    assert sections(page) == [
        *("Training", "Samples during training", "Speed and memory", "Configuration"),
        "How to continue",
    ]
    count = re.search(r"Total: ([\d,]+)", (finished / "parameters.txt").read_text())[1]
    assert f"<dd>{int(count.replace(',', '')) / 1e6:.2f}M</dd>" in page
    assert "<dd>1,500</dd>" in page and "<dd>96</dd>" in page and "<dd>8 x cpu</dd>" in page
    last = tiny.curve(finished)[-1]
    for name in ("loss", "gradient_norm", "learning_rate"):
        assert f"<span>{last[name]:.4g} at the end</span>" in page
    assert page.count('data-step="step') == 3


def test_what_a_run_has_not_left_is_not_listed(run):
    shutil.rmtree(run / "grids")
    (run / "speed.jsonl").unlink()
    lines = summary(run, Outcome(6, "", 0))
    names = [line.split()[0] for line in lines if line.startswith("  ")]
    assert names == [
        "report.html",
        "checkpoints/",
        "metrics.jsonl",
        "config.json",
        "parameters.txt",
    ]


def test_curves_that_end_before_the_run_say_at_which_step(run):
    """As where the number of steps is no multiple of train.log_every."""
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:4]))
    page = page_of(run)
    assert f"Loss {json.loads(lines[3])['loss']:.4g} at step 4" in page
    assert "Finished</b>: 6 of 6 steps" in page


def test_fields_stand_beside_the_file_and_beside_the_defaults(run):
    beside_file, beside_defaults = page_of(run).split("<details>")
    assert row("model.latent_dim", 16, 64) in beside_file
    assert row("model.latent_dim", 16, 768) in beside_defaults
    assert row("data.name", "digits", "npz") in beside_defaults
    assert ">data.name<" not in beside_file  # the file says so
    assert ">optimizer.name<" not in beside_file + beside_defaults
    about = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps(about | {"config": "rin/cifar10:bf16,2h"}))
    beside_file, _ = page_of(run).split("<details>")
    assert "configs/rin/cifar10.py:bf16,2h" in beside_file
    assert row("train.steps", 6, 81000) in beside_file
    (run / "run.json").unlink()  # as in runs of long ago
    page = page_of(run)
    assert "<details>" not in page and row("data.name", "digits", "npz") in page


def test_results_stand_beside_the_papers_row(run):
    (run / "run.json").write_text('{"config": "rin/cifar10"}')
    (run / "samples" / "a").mkdir(parents=True)
    result = Result(
        config="rin/cifar10",
        metrics={"fid": 2.345},
        counts={"samples": 500},
        weights={},
        reference={},
        command="",
    )
    write_result(run / "samples" / "a" / "results.json", result)
    page = re.sub(r"\s*\n\s*", "", page_of(run))
    assert '<th scope="row">FID</th><td>1.81</td><td class="ours">2.35</td>' in page
    assert '<th scope="row">IS</th><td>10.3</td><td class="ours"></td>' in page
    assert '<td class="ours">samples/a</td>' in page


def test_the_quickstarts_table_is_kept_and_shown(run):
    (printed,) = processes.finish(processes.start(1, 8, "launch.quickstart", f"--workdir={run}"))
    lines = [line for line in printed.splitlines() if not line.startswith("Drawing")]
    titles, *rows = (re.split(r"\s{2,}", line.strip()) for line in lines[:4])
    kept = json.loads((run / "digit_scores.json").read_text())
    assert (kept["step"], kept["samples"]) == (6, 500)
    page = (run / "report.html").read_text()
    assert "".join(f'<th scope="col">{title}</th>' for title in titles) in page
    for name, *cells in rows:
        assert f"{kept['rows'][name]['agreement']:.1%}" == cells[0]
        assert f'<th scope="row">{name}</th>' + "".join(f"<td>{c}</td>" for c in cells) in page


def test_pictures_of_the_run_have_their_sections(run):
    for section in ("samples", "inside"):
        words = Picture(f"{section}.png", section, f"Title {section}", HOSTILE, 1234, "python -m x")
        save_picture(run, words, lambda path: Image.new("L", (9, 9)).save(path, format="png"))
    page = page_of(run)
    assert sections(page)[2:4] == ["Samples", "Inside the network"]
    assert page.index("<h3>Title samples") < page.index("Inside the") < page.index("<h3>Title ins")
    assert page.count("Step 1,234, by <code>python -m x</code>") == 2
    assert HOSTILE not in page and page.count("&lt;script&gt;") == 2


def test_nothing_in_a_run_becomes_markup_or_a_request(run):
    config = json.loads((run / "config.json").read_text())
    config["data"]["path"] = config["evaluation"]["inception"] = HOSTILE
    config["data"]["name"] = "npz"
    (run / "config.json").write_text(json.dumps(config))
    (run / "run.json").write_text(json.dumps(dict.fromkeys(("config", "command"), HOSTILE)))
    page = page_of(run)
    assert page.count("<script>") == 2 and "&lt;script&gt;document.title=" in page
    assert "://" not in page and "@import" not in page
    for target in re.findall(r'(?:src|href)="?([^ >]+)|url\(([^)]*)\)', page):
        assert "".join(target).startswith(("data:", "#"))


def test_a_killed_run_says_how_far_it_came_and_how_to_go_on(run):
    checkpoint = run / "checkpoints" / "6"
    checkpoint.rename(checkpoint.with_suffix(".orbax-checkpoint-tmp"))
    lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
    (run / "metrics.jsonl").write_text("".join(lines[:5]) + lines[5][:20])
    (run / "report.html").unlink()
    command = [sys.executable, "-m", "launch.report", str(run)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, f"Written: {run / 'report.html'}\n")
    page = (run / "report.html").read_text()
    assert "Not finished</b>: 5 of 6 steps, the newest checkpoint is of step 4" in page
    assert "Go on from where it stopped" in page


def test_a_run_that_has_just_begun_has_no_empty_sections(run):
    for path in run.iterdir():
        if path.name not in ("config.json", "run.json", "data.json"):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    page = page_of(run)
    assert "Not finished</b>: 0 of 6 steps, no checkpoint" in page
    assert sections(page) == ["Configuration", "How to continue"]


def test_no_run_is_named(tmp_path):
    with pytest.raises(UserError, match="holds no run"):
        write_report(tmp_path)


def test_commands_can_be_called_again(run):
    page = page_of(run)
    assert f"<pre>{COMMAND.replace('=6', '=12')}</pre>" in page
    assert f"<pre>python -m launch.sample --workdir={run} --num=64</pre>" in page


def test_without_scripts_the_curves_are_pictures_in_the_pages_colours(browser, finished):
    context = browser.new_context(java_script_enabled=False, color_scheme="dark")
    page = context.new_page()
    page.goto((finished / "report.html").as_uri())
    assert page.locator("svg:visible").count() == 4 and page.locator("canvas").count() == 0
    assert page.locator("label:visible").count() == 0  # nothing that would need scripts
    text = page.locator("svg text").first
    assert text.bounding_box()["height"] > 9
    assert text.evaluate("each => getComputedStyle(each).fill") == "rgb(227, 230, 234)"
    context.close()


def test_curves_have_values_under_the_pointer_a_logarithmic_axis_and_zoom(browser, run):
    loss = [1.5, 0.9, 0.5, 0.3, 0.25, 0.21]
    lines = [json.dumps({"step": 10 * i + 10, "loss": each}) for i, each in enumerate(loss)]
    (run / "metrics.jsonl").write_text("\n".join(lines) + "\n")
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(write_report(run).as_uri())
    figure, plot = page.locator("figure.curve").first, page.locator(".u-over").first
    legend, log = figure.locator(".u-value"), figure.get_by_label("log")
    box = plot.bounding_box()
    assert legend.all_inner_texts() == ["60", "0.21"]  # the last ones
    assert not log.is_checked()

    def place(step: float) -> tuple[float, float]:
        return box["x"] + box["width"] * (step - 10) / 50, box["y"] + box["height"] / 2

    for step, value in zip((20, 40), (0.9, 0.3), strict=True):
        page.mouse.move(*place(step + 2))
        assert legend.all_inner_texts() == [str(step), str(value)]

    def scale(axis: str, end: str) -> float:
        return figure.evaluate(f"figure => figure.plot.scales.{axis}.{end}")

    def height(value: float) -> float:
        """Where a value stands, from 0 at the bottom of the axis to 1."""
        at = figure.evaluate(f"figure => figure.plot.valToPos({value}, 'y')")
        return 1 - at / box["height"]

    middle = (scale("y", "min") + scale("y", "max")) / 2
    assert height(middle) == pytest.approx(0.5, abs=0.01)
    log.check()
    mean = (scale("y", "min") * scale("y", "max")) ** 0.5
    assert height(mean) == pytest.approx(0.5, abs=0.01)
    assert scale("y", "min") > 0

    box = plot.bounding_box()
    page.mouse.move(*place(25))
    page.mouse.down()
    page.mouse.move(*place(45), steps=4)
    page.mouse.up()
    assert (scale("x", "min"), scale("x", "max")) == pytest.approx((25, 45), abs=0.5)
    assert scale("y", "max") < 0.9  # of what is in view
    page.mouse.dblclick(*place(35))
    assert (scale("x", "min"), scale("x", "max")) == (10, 60)
    page.close()


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width, height", [(360, 740), (1280, 900)])
def test_a_browser_shows_it_on_phone_and_desk(browser, finished, width, height, colours):
    viewport = {"width": width, "height": height}
    page = browser.new_page(viewport=viewport, color_scheme=colours)
    problems, requests = [], []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("request", lambda request: requests.append(request.url))
    page.goto((finished / "report.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    shades = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shades == ("rgb(255, 255, 255)" if colours == "light" else "rgb(20, 22, 26)")
    assert page.locator("canvas:visible").count() == 4 and page.locator("svg:visible").count() == 0

    def shown() -> list[str]:
        return [image.get_attribute("alt") for image in page.locator("img:visible").all()]

    assert shown() == ["Samples after step 6"]
    slider = page.get_by_label("Training step")
    slider.focus()
    page.keyboard.press("ArrowLeft")
    assert shown() == ["Samples after step 4"]
    assert page.locator("output").inner_text() == slider.get_attribute("aria-valuetext") == "step 4"
    slider.fill("0")
    assert shown() == ["Samples after step 2"]
    assert page.evaluate("[...document.images].every(i => i.complete && i.naturalWidth > 0)")
    page.get_by_text("fields that are not the defaults").click()
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    assert problems == []
    assert {url.split(":")[0] for url in requests} <= {"file", "data"}
    page.close()
