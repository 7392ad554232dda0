"""launch.report --serve follows a run that trains, in a real browser, until Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from pathlib import Path

import pytest
import tiny

from diffusion_jax.errors import UserError
from diffusion_jax.reporting.server import Server, serve

ROOT = Path(__file__).parents[2]


@pytest.fixture
def run(tmp_path) -> Path:
    """A run directory as training leaves it after three records."""
    (tmp_path / "config.json").write_text(tiny.config().to_json())
    for step in (1, 2, 3):
        record(tmp_path, step)
    return tmp_path


def record(workdir: Path, step: int) -> None:
    with (workdir / "metrics.jsonl").open("a") as file:
        file.write(json.dumps({"step": step, "loss": 1 / step}) + "\n")


@pytest.fixture
def served(run):
    """The command as a process, and its address."""
    command = [sys.executable, "-m", "launch.report", str(run), "--serve=0"]
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    process = subprocess.Popen(command, cwd=ROOT, text=True, **pipes)
    line = process.stdout.readline()
    yield process, re.fullmatch(r"The report is at (\S+) until Ctrl-C\.\n", line)[1]
    process.kill()
    process.communicate()


def test_the_page_follows_the_run_and_ctrl_c_ends_it_in_one_line(browser, run, served):
    process, address = served
    assert re.fullmatch(r"http://127\.0\.0\.1:\d+/", address)
    page = browser.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    with page.expect_response("**/changed"):
        page.goto(address)
    status = page.locator(".status")
    assert status.inner_text() == "Not finished: 3 of 6 steps, no checkpoint"
    record(run, 4)
    page.get_by_text("Not finished: 4 of 6 steps").wait_for(timeout=60_000)
    assert page.locator(".u-value").all_inner_texts()[:2] == ["4", "0.25"]
    assert problems == []
    page.close()
    assert not (run / "report.html").exists()  # the page is made for whoever looks at it

    config = (run / "config.json").read_text()
    (run / "config.json").write_text("{")
    with pytest.raises(urllib.error.HTTPError, match="503") as refused:
        urllib.request.urlopen(address)
    assert "config.json is damaged" in refused.value.read().decode()
    assert refused.value.headers["Refresh"] == "2"
    (run / "config.json").write_text(config)
    with urllib.request.urlopen(address) as answer:
        assert b"4 of 6 steps" in answer.read()
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(address + "config.json")  # no file of the run is served

    os.kill(process.pid, signal.SIGINT)
    assert process.communicate(timeout=60) == ("Stopped.\n", "")
    assert process.returncode == 0


def test_what_cannot_be_served_is_one_line(run):
    def broken(changed: str) -> str:
        raise UserError("there is no run")

    with pytest.raises(UserError, match="there is no run"):
        serve(broken, [run], 0)
    with Server(lambda changed: "", [run], 0) as first:
        port = first.server_port
        with pytest.raises(UserError, match=rf"port {port} cannot be had .*--serve={port + 1}"):
            serve(lambda changed: "", [run], port)


def test_only_what_the_page_shows_changes_it(run):
    with Server(lambda changed: "", [run], 0) as server:
        before = server.changed()
        (run / "checkpoints" / "3").mkdir(parents=True)
        (run / "checkpoints" / "3" / "state").write_text("")
        with_checkpoint = server.changed()
        assert with_checkpoint != before  # which says how far it came
        (run / "checkpoints" / "3" / "state").write_text("more")
        assert server.changed() == with_checkpoint
        record(run, 4)
        assert server.changed() != with_checkpoint
