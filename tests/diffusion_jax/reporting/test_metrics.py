"""Records are on the disk at once, in files that TensorBoard reads."""

import json
import struct
from pathlib import Path

import pytest
from full_disk import files_of_at_most
from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.record_writer import masked_crc32c

from diffusion_jax.errors import UserError
from diffusion_jax.reporting.metrics import MetricWriter, read_lines
from diffusion_jax.storage.files import WriteError


def events(workdir: Path) -> list[Event]:
    """Those of the only event file, read as TFRecords are written down."""
    (path,) = (workdir / "tensorboard").glob("events.out.tfevents.*")
    data, found = path.read_bytes(), []
    while data:
        (length,) = struct.unpack("<Q", data[:8])
        checks = struct.unpack("<I", data[8:12]) + struct.unpack("<I", data[12 + length :][:4])
        assert checks == (masked_crc32c(data[:8]), masked_crc32c(data[12 : 12 + length]))
        found.append(Event.FromString(data[12 : 12 + length]))
        data = data[16 + length :]
    return found


def test_records_are_written_at_once_in_both_forms(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    writer.write(1, {"loss": 0.5})
    writer.write_speed(1, {"mfu": 0.25})
    assert read_lines(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5}]
    assert read_lines(tmp_path / "speed.jsonl") == [{"step": 1, "mfu": 0.25}]
    version, start, *scalars = events(tmp_path)
    assert version.file_version == "brain.Event:2"
    assert (start.step, start.session_log.status) == (1, SessionLog.START)
    values = [(event.step, event.summary.value[0]) for event in scalars]
    assert [(step, value.tag, value.simple_value) for step, value in values] == [
        (1, "loss", 0.5),
        (1, "speed/mfu", 0.25),
    ]
    writer.close()


def test_what_is_computed_again_is_dropped_with_a_damaged_end(tmp_path):
    path = tmp_path / "metrics.jsonl"
    lines = [json.dumps({"step": step, "loss": 1.0}) for step in (1, 2, 3)]
    path.write_bytes("\n".join(lines).encode() + b"\n" + bytes(512))
    writer = MetricWriter(tmp_path, resume_step=2)
    writer.write(3, {"loss": 2.0})
    writer.close()
    assert [record["loss"] for record in read_lines(path)] == [1, 1, 2]
    assert events(tmp_path)[1].step == 3  # from which on TensorBoard drops what was there


def test_a_full_disk_is_one_line_and_the_next_writer_goes_on(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    with files_of_at_most(100), pytest.raises(WriteError, match=r"/\S+ cannot be written .*make"):
        for step in range(100):
            writer.write(step, {"loss": 1.0})
    writer.close()
    written = len(read_lines(tmp_path / "metrics.jsonl"))
    assert 0 < written < 10
    writer = MetricWriter(tmp_path, written)
    writer.write(written, {"loss": 1.0})
    writer.close()
    records = read_lines(tmp_path / "metrics.jsonl")
    assert [record["step"] for record in records] == list(range(written + 1))


def test_a_record_must_be_finite(tmp_path):
    writer = MetricWriter(tmp_path, 0)
    with pytest.raises(UserError, match="fid is nan at step 5"):
        writer.write(5, {"fid": float("nan")})
    writer.close()
