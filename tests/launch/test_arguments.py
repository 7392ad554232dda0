"""Options and config files that cannot be used: one line, whatever is wrong with them."""

import re
from pathlib import Path

import commands
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def server():
    with commands.serving() as served:
        yield served


def check_refused(result: commands.Result, message: str, printed: str = "") -> None:
    assert (result.code, result.stdout) == (2, printed), result.stderr
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
        (["encode_latents", "--batch_size=0"], "--batch_size is 0: it must be at least 1"),
        (["prepare", f"--out={__file__}"], "--out is '.*', which is a file: give a folder"),
        (["reference", f"--out={ROOT}"], "--out is '.*', which is a folder: give a file"),
        (["posthoc_ema", "--sigma_rel=0.1,2"], r"--sigma_rel is \[0.1, 2\]: an element is 2: it"),
        (["benchmark", "--phases="], r"--phases is \[\]: give at least 1"),
        (
            ["benchmark", "--phases=train,tain"],
            r"--phases is .*: an element is 'tain': did you mean",
        ),
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
    "name, message",
    [
        ("a*b", r"/\S+/a\*b has \* in it, and checkpoints cannot lie there: rename"),
        ("runs[1]/x", r"/\S+x has \[ in it, and checkpoints cannot lie there: rename"),
        ("a\\b", r"/\S+b has \\ in it, and checkpoints cannot lie there: rename"),
        ("caf\udce9", r"the path '/\S+/caf\\udce9' is not UTF-8: rename"),
        (
            "~nobody_here/x",
            r"--workdir is '~nobody_here/x': there is no such user; write",
        ),
        (" ", "--workdir is empty: give a path"),
    ],
)
def test_runs_do_not_lie_where_their_checkpoints_could_not_be_read(server, tmp_path, name, message):
    train = ["launch.train", f"--config={ROOT}/configs/rin/digits.py", f"--workdir={name}"]
    check_refused(server.run(*train, cwd=tmp_path), message)
    assert not list(tmp_path.iterdir())


def test_a_data_set_is_written_beside_its_images_in_a_size_that_can_be_read(server, tmp_path):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "photos" / "0.png")
    given = ["--path=photos", "--weights=none.safetensors"]
    for out in ("photos/set", "photos"):
        for command in (["launch.prepare", given[0]], ["launch.encode_latents", *given]):
            result = server.run(*command, f"--out={out}", cwd=tmp_path)
            check_refused(result, f"--out {out} lies in --path photos: give a folder outside")
    result = server.run("launch.prepare", given[0], "--out=set", "--size=9460", cwd=tmp_path)
    check_refused(result, "--size is 9460: it must be at most 9459")
    assert [path.name for path in tmp_path.rglob("*")] == ["photos", "0.png"]


def test_a_damaged_image_is_told_in_one_line(server, tmp_path):
    """Pillow would warn of the tags of this TIFF before it gives up."""
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "0.png").write_bytes(b"II*\0\x08\0\0\0\xff\xff\x12\x01")
    prepare = ["launch.prepare", "--workers=1", "--path=photos", "--out=set"]
    message, printed = "0.png: is none of JPEG, PNG, WEBP,", "Writing 1 record to set...\n"
    check_refused(server.run(*prepare, cwd=tmp_path), message, printed)


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
        ("raise SystemExit(0)\n", "--config: bad.py failed in line 1: SystemExit: 0"),
        ("def get_config():\n    exit()\n", "--config: bad.py failed in line 2: SystemExit"),
        ("raise KeyboardInterrupt\n", "--config: bad.py failed in line 1: KeyboardInterrupt"),
        ("get_config = 3\n", "--config: bad.py failed: TypeError: 'int' object is not callable"),
        ("\0", "--config: bad.py failed: SyntaxError: source code string cannot contain null"),
        ("def get_config():\n    return None\n", "--config gives a NoneType: return a ConfigDict"),
    ],
)
def test_config_files_that_give_no_config(server, tmp_path, text, message):
    (tmp_path / "bad.py").write_text(text)
    for field in ([], ["--config.train.steps=1"]):
        result = server.run("launch.train", "--config=bad.py", *field, "--workdir=r", cwd=tmp_path)
        check_refused(result, message)
    assert [path.name for path in tmp_path.iterdir() if path.name != "__pycache__"] == ["bad.py"]


@pytest.mark.parametrize("then", ["1 / 0", "def get_config(): return 1 / 0", "x = 1"])
def test_a_config_file_that_fails_is_run_once(server, tmp_path, then):
    (tmp_path / "bad.py").write_text(f"print('run', file=open('log', 'a'))\n{then}\n")
    result = server.run("launch.train", "--config=bad.py", "--workdir=r", cwd=tmp_path)
    check_refused(result, "--config: bad.py ")
    assert (tmp_path / "log").read_text() == "run\n"


def test_a_config_without_a_section_names_it(server, tmp_path):
    (tmp_path / "bad.py").write_text(
        "from ml_collections import ConfigDict\n"
        "def get_config():\n    return ConfigDict({'seed': 0, 'train': {'steps': 1}})\n"
    )
    result = server.run("launch.train", "--config=bad.py", "--workdir=r", cwd=tmp_path)
    check_refused(result, "--config gives a config without autoencoder.name: make it")


@pytest.mark.parametrize(
    "change, message",
    [
        ("del c.train.steps", "--config gives a config without train.steps: make it"),
        ("del c.model.name", "--config gives a config without model.name: make it"),
        ("del c.model.geometry.kind", "--config gives a config without model.geometry.kind: make"),
        ("c.model = None", "--config gives a config without model.name: make it"),
        ("c.sampling.schedule = {}", "--config gives a config without sampling.schedule.name: "),
        ("c.train.lerning = 3", "--config gives a config with train.lerning, which is no field"),
        ("c.more = {'a': 1}", "--config gives a config with more.a, which is no field"),
        ("c = FrozenConfigDict(c)", "--config gives a FrozenConfigDict: return a ConfigDict"),
        ("c.data.path = required_placeholder(str)", "--config leaves a required field open: give"),
    ],
)
def test_a_config_has_all_fields_and_no_others(server, tmp_path, change, message):
    (tmp_path / "bad.py").write_text(
        "from configs.rin import digits\n"
        "from ml_collections.config_dict import FrozenConfigDict, required_placeholder\n"
        f"def get_config():\n    c = digits.get_config().unlock()\n    {change}\n    return c\n"
    )
    result = server.run("launch.train", "--config=bad.py", "--workdir=r", cwd=tmp_path)
    check_refused(result, message)
    assert not (tmp_path / "r").exists()


def test_a_section_that_an_option_replaces_has_all_fields(server, tmp_path):
    train = ["launch.train", f"--config={ROOT}/configs/rin/digits.py", "--workdir=r"]
    result = server.run(*train, "--config.train={'steps': 3}", cwd=tmp_path)
    check_refused(result, "--config gives a config without train.accumulate: make it")


def test_a_config_is_found_however_it_is_given(server, tmp_path):
    for given in (["--config", "no.py"], ["-config=no.py"], ["-config", "no.py"]):
        result = server.run("launch.train", *given, "--workdir=r", cwd=tmp_path)
        check_refused(result, "--config: there is no file 'no.py'")
    result = server.run("launch.train", "--flagfile=no.txt", "--workdir=r", cwd=tmp_path)
    check_refused(result, r"ERROR:: Unable to open flagfile: .* No such file or directory")


def test_every_option_has_a_rule():
    """Those that absl defines itself are switches, and text that is checked where it is used."""
    for path in (ROOT / "launch").glob("[a-z]*.py"):
        if path.name != "arguments.py":
            assert not re.search(r"DEFINE_(integer|float|enum)\(", path.read_text()), path
