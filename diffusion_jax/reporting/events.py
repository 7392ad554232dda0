"""TensorBoard's event files, written as the metrics are: at once, by the thread that trains.

tensorboardX encodes the events. We do not use its writer, which is a thread: a full disk ends it
with a traceback, and training then waits for it for ever.
"""

import os
import socket
import struct
import time
from pathlib import Path

from tensorboardX.proto.event_pb2 import Event, SessionLog
from tensorboardX.proto.summary_pb2 import Summary
from tensorboardX.record_writer import masked_crc32c

from diffusion_jax.storage.files import Appender, writing


class EventFile:
    """A new event file in a folder.

    Args:
      folder: made if it is not there.
      first_step: TensorBoard drops what earlier files have from this step on.

    Raises:
      WriteError: here and from every method, if it cannot be written.
    """

    def __init__(self, folder: Path, first_step: int):
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        name = f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}"
        self._file = Appender(folder / name)
        self._write(Event(file_version="brain.Event:2"))
        started = SessionLog(status=SessionLog.START)
        self._write(Event(step=first_step, session_log=started))

    def add(self, summary: Summary, step: int) -> None:
        """Write a summary, made by `tensorboardX.summary`, for a step."""
        self._write(Event(step=step, summary=summary))

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, event: Event) -> None:
        # TFRecord framing: length, its checksum, the event, its checksum.
        event.wall_time = time.time()
        data = event.SerializeToString()
        length = struct.pack("<Q", len(data))
        checks = (struct.pack("<I", masked_crc32c(part)) for part in (length, data))
        self._file.write(b"".join((length, next(checks), data, next(checks))))
