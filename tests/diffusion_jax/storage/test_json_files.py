"""Whatever is wrong with a JSON file is one line with its name, the fault and what to do."""

import json

import pytest
from damage import damaged, example

from diffusion_jax.errors import UserError
from diffusion_jax.storage import schemas
from diffusion_jax.storage.json_files import read_json, read_json_lines, write_json

ALL = {name: value for name, value in vars(schemas).items() if isinstance(value, schemas.Schema)}


@pytest.mark.parametrize("name", ALL)
def test_what_a_schema_says_can_be_read_and_nothing_else(name, tmp_path):
    path, schema = tmp_path / "file.json", ALL[name]
    write_json(path, example(schema.shape))
    assert read_json(path, schema) == example(schema.shape)
    for words, data in damaged(schema):
        path.write_bytes(data)
        with pytest.raises(UserError) as refused:
            pytest.fail(f"{words}: {read_json(path, schema)}")
        assert str(refused.value).startswith(f"{path} is damaged ("), words
        assert str(refused.value).endswith(f"): {schema.advice}"), words
        assert len(str(refused.value).splitlines()) == 1


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path / "none.json", tmp_path):
        with pytest.raises(UserError, match=f"there is no file {path}: delete it"):
            read_json(path, schemas.RUN)


def test_what_no_reader_would_take_is_not_written(tmp_path):
    with pytest.raises(UserError, match=r"file.json is not written: Out of range float"):
        write_json(tmp_path / "file.json", {"fid": float("nan")})
    assert not any(tmp_path.iterdir())


def test_the_fault_is_named(tmp_path):
    path = tmp_path / "data.json"
    path.write_text('{"path": "x", "examples": "10", "fingerprint": "y"}')
    with pytest.raises(UserError, match=r"\(examples is '10', not an integer that is not negat"):
        read_json(path, schemas.DATA)
    path.write_text('{"path": "x", "examples": 10}')
    with pytest.raises(UserError, match=r"data.json is damaged \(it lacks fingerprint\): put back"):
        read_json(path, schemas.DATA)


LINES = b'{"step": 1, "loss": 0.5}\n{"step": 2, "loss": 0.25}\n'


@pytest.mark.parametrize(
    "tail",
    [
        b"",
        b'{"step": 3, "lo',
        b'{"step": 3, "loss": 0.5}',
        bytes(4096),
        b'{"step": 3, "lo' + bytes(100),
        bytes(100) + b"\n",
        b'{"step": 3, "lo' + bytes(100) + b"\n" + bytes(100) + b"\n",
        b"\xff\xfe",
    ],
)
def test_an_end_that_a_kill_or_a_power_loss_left_is_cut_off(tail, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + tail)
    assert read_json_lines(path, schemas.RECORD) == [
        json.loads(line) for line in LINES.splitlines()
    ]


@pytest.mark.parametrize(
    "line",
    [
        bytes(100) + b"\n",
        b'{"step": 3, "lo\n',
        b"\xff\n",
        b"[1]\n",
        b'{"loss": 1}\n',
        b'{"step": 3, "loss": "low"}\n',
        b'{"step": 3, "loss": NaN}\n',
    ],
)
def test_damage_in_the_middle_is_named_by_its_line(line, tmp_path):
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(LINES + line + LINES)
    message = r"metrics.jsonl, line 3, is damaged \(.*\): .*delete the damaged lines"
    with pytest.raises(UserError, match=message):
        read_json_lines(path, schemas.RECORD)
