"""Options and config files that cannot be used: one line, whatever is wrong with them."""

import re
from pathlib import Path

import commands
import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server():
    with commands.serving() as served:
        yield served


def check_refused(result: commands.Result, message: str) -> None:
    assert (result.code, result.stdout) == (2, ""), result.stderr
    assert re.fullmatch(rf"error: {message}.*\n", result.stderr), result.stderr


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["sample", "--seed=4294967296"], "--seed is 4294967296: it must be at most 4294967295"),
        (["sample", "--seed=-1"], "--seed is -1: it must be at least 0"),
        (["sample", "--guidance=nan"], "--guidance is nan: it must be a finite number"),
        (["sample", "--noise_level=nan"], "--noise_level is nan: it must be a finite number"),
        (["sample", "--noise_level=0"], r"--noise_level is 0: it must be above 0"),
        (["sample", "--num=1e9"], r"--num is 1000000000.0: it must be an integer"),
        (["sample", "--workdir="], "--workdir is empty: give a path"),
        (["sample", "--out=gs://bucket/x"], "--out is 'gs://bucket/x': only local paths can be"),
        (["sample", "--show=sweeep"], "--show is 'sweeep': did you mean sweep"),
        (["export", "--out=s3://bucket/x"], "--out is 's3://bucket/x': only local paths can be"),
        (["prepare", "--size=-4"], "--size is -4: it must be at least 0"),
        (["prepare", f"--out={__file__}"], "--out is '.*', which is a file: give a folder"),
        (["reference", f"--out={ROOT}"], "--out is '.*', which is a folder: give a file"),
        (["posthoc_ema", "--sigma_rel=0.1,2"], r"--sigma_rel is \[0.1, 2\]: an element is 2: it"),
        (["compare", "--seeds=0,-1"], r"--seeds is \[0, -1\]: an element is -1: it must be at"),
        (
            [
                "train",
                "--coordinator=here",
                "--num_hosts=2",
                "--host=0",
                f"--config={ROOT}/configs/rin/digits.py",
                "--workdir=x",
            ],
            "--coordinator is 'here': give HOST:PORT",
        ),
        (["sample", "--nmu=\x1b[2J\nerror: all is well"], "Unknown command line flag 'nmu'"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_values_that_break_their_rule(server, tmp_path, arguments, message):
    name, *options = arguments
    check_refused(server.run(f"launch.{name}", *options, cwd=tmp_path), message)
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    "text, message",
    [
        ("def get_config(:\n", "--config: bad.py failed in line 1: SyntaxError: invalid syntax"),
        ("\n\n1 / 0\n", "--config: bad.py failed in line 3: ZeroDivisionError: division by zero"),
        (
            "def get_config():\n    return None + 1\n",
            "--config: bad.py failed in line 2: Typ",
        ),
        ("import nothing_of_this_name\n", "--config: bad.py failed in line 1: ModuleNotFoundErro"),
        ("x = 1\n", "--config: bad.py has no function get_config"),
        (
            "def get_config():\n    return {'seed': 0}\n",
            "--config gives a dict: return",
        ),
        ("def get_config():\n    return 3\n", "--config gives a int: return a ConfigDict"),
        ("raise ValueError('a\\nerror: all is well')\n", r"--config: bad.py failed in line 1: Va"),
    ],
)
def test_config_files_that_give_no_config(server, tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    for field in ([], ["--config.train.steps=1"]):
        result = server.run("launch.train", "--config=bad.py", *field, "--workdir=r", cwd=tmp_path)
        check_refused(result, message)
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["bad.py"]


def test_a_config_without_a_section_names_it(server, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'seed': 0, 'train': {'steps': 1}})\n"
    )
    result = server.run("launch.train", "--config=bad.py", "--workdir=r", cwd=tmp_path)
    check_refused(result, "--config gives a config without ema_decay: make it with")


def test_every_option_has_a_rule():
    """Those that absl defines itself are switches, and text that is checked where it is used."""
    for path in (ROOT / "launch").glob("*.py"):
        if path.name != "arguments.py":
            assert not re.search(r"DEFINE_(integer|float|enum)\(", path.read_text()), path
