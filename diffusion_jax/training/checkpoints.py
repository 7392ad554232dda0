"""Saving and restoring the train state with Orbax: asynchronous, sharded, atomic, and verified.

Orbax writes a step into a temporary folder and renames it once every host is done, so a folder
named after a step was whole when it was written. If it is damaged later, Orbax notices missing and
cut files, but restores an array with flipped bits as if nothing were wrong: each step therefore
carries the checksums of its arrays.
"""

import contextlib
import os
import re
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from jax.experimental import multihost_utils
from orbax.checkpoint.checkpoint_managers import AnyPreservationPolicy, EveryNSteps, LatestN

from diffusion_jax.console import warn
from diffusion_jax.errors import UserError
from diffusion_jax.storage.checksums import checksums
from diffusion_jax.storage.untrusted import check_utf8
from diffusion_jax.training import orbax_noise
from diffusion_jax.training.state import TrainState

orbax_noise.silence()


class Checkpoints:
    """The checkpoints of one run, for the one job that writes them.

    Args:
      directory: their folder, with a folder for each step; made if it is not there.
      keep: number of the newest to keep.
      keep_every: checkpoints at multiples of this step are kept for good; 0 for none.

    Raises:
      UserError: here and from every method, if the directory cannot be written.
    """

    def __init__(self, directory: Path, keep: int = 1, keep_every: int = 0):
        policies = [LatestN(keep), *([EveryNSteps(keep_every)] if keep_every else [])]
        self._directory = directory.absolute()
        check_place(directory)
        with self._writing():
            self._directory.mkdir(parents=True, exist_ok=True)
            self._manager = _manager(
                self._directory,
                preservation_policy=AnyPreservationPolicy(policies),
                cleanup_tmp_directories=True,  # left by saves that were killed
            )

    def latest(self) -> int | None:
        """Return the step of the newest checkpoint, None if there is none."""
        return self._manager.latest_step()

    def restore_newest(self, template: TrainState) -> TrainState | None:
        """Restore as the function of this name, and rename damaged newer steps to <step>.damaged.

        They would be in the way, since Orbax saves only steps that are newer than all others.
        """
        state, damaged = _newest_whole(self._directory, template)
        with self._writing():
            if jax.process_index() == 0:
                for step in damaged:
                    _set_aside(self._directory / str(step))
            multihost_utils.sync_global_devices("damaged checkpoints are set aside")
            self._manager.reload()
        return state

    def save(self, step: int, state: TrainState) -> None:
        """Start writing the state after `step` updates; return before it is on disk.

        The arrays are copied to the host first, so the next step may overwrite their buffers.

        Raises:
          UserError: if this or the save before it failed.
        """
        metadata = {"checksums": checksums(state)}
        with self._writing():
            # Fail here if nothing can be written: Orbax would leave threads that wait for a folder
            # that it could not make, and hold up the exit.
            tempfile.TemporaryDirectory(dir=self._directory).cleanup()
            args = ocp.args.StandardSave(state)
            self._manager.save(step, args=args, custom_metadata=metadata)

    def wait(self) -> None:
        """Block until the last save is complete."""
        with self._writing():
            self._manager.wait_until_finished()

    def close(self) -> None:
        """Wait for the last save and release the manager's threads."""
        try:
            self.wait()
        finally:
            with self._writing():
                self._manager.close()

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except (OSError, ValueError) as error:  # TensorStore's errors are ValueErrors
            raise UserError(
                f"checkpoints cannot be written to {self._directory} ({_reason(error)}): make "
                "room there, or make it writable, and start the same command again; it goes on "
                "from the last complete checkpoint"
            ) from error


def save_once(directory: Path, step: int, state: Any, keep_every: int = 0) -> None:
    """Save a tree and wait for it, unless it was saved before the run was stopped.

    Args:
      keep_every: see `Checkpoints`; the newest is kept as well.

    Raises:
      UserError: if the directory cannot be written.
    """
    with contextlib.closing(Checkpoints(directory, keep_every=keep_every)) as checkpoints:
        if step > (checkpoints.latest() or 0):
            checkpoints.save(step, state)


def restore_newest(
    directory: Path, template: TrainState, step: int | None = None
) -> TrainState | None:
    """Return the newest whole state, with the template's shapes, dtypes and shardings.

    A corrupt checkpoint is reported on stderr and skipped in favour of the previous one. Nothing
    is written, since the run may be going on. Every host calls this, and all decide alike.

    Args:
      step: restore this step and no other.

    Returns:
      The state, or None if there is no checkpoint.

    Raises:
      UserError: if all are damaged, if one is of another config, naming fields that differ, or if
        there is none of `step`.
    """
    return _newest_whole(directory.absolute(), template, step)[0]


def kept_steps(directory: Path) -> list[int]:
    """Return the steps of which a directory has checkpoints, in order; none if it is not there."""
    return sorted(ocp.utils.checkpoint_steps(directory)) if directory.is_dir() else []


def check_place(directory: Path) -> None:
    """Raise `UserError` for a path that Orbax or TensorStore would take for another one.

    Orbax expands wildcards when it merges what the hosts wrote, and TensorStore takes a backslash
    for a slash.
    """
    path = str(directory.absolute())
    check_utf8(path, "the path")
    if misread := [character for character in "*?[\\" if character in path]:
        raise UserError(
            f"{path} has {misread[0]} in it, and checkpoints cannot lie there: rename the folder"
        )


def check_kept(directory: Path, step: int) -> None:
    """Raise `UserError` if there is no checkpoint of a step, naming those that there are."""
    steps = kept_steps(directory)
    if step not in steps:
        there = f"but of {', '.join(map(str, steps))}" if steps else "nor of any other"
        raise UserError(f"{directory} has no checkpoint of step {step}, {there}")


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Return the shapes and dtypes of a tree, to be restored with a tree of shardings."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        sharding,
    )


_EMPTY = "no arrays"


class _Damaged(Exception):
    """A checkpoint that Orbax can read, but that is not what was saved."""


def _manager(directory: Path, **options) -> ocp.CheckpointManager:
    return ocp.CheckpointManager(
        directory,
        item_handlers=ocp.StandardCheckpointHandler(),
        options=ocp.CheckpointManagerOptions(**options),
    )


def _newest_whole(
    directory: Path, template: TrainState, only: int | None = None
) -> tuple[TrainState | None, list[int]]:
    """Return the newest whole state, or that of `only` one step, and the damaged newer steps."""
    check_place(directory)
    process = jax.process_index()
    # Each host reads for itself: one that finds damage must not leave the others waiting in Orbax.
    alone = ocp.options.MultiprocessingOptions(process, {process}, f"host{process}")
    reader = _manager(directory, create=False, read_only=True, multiprocessing_options=alone)
    damaged = []
    with contextlib.closing(reader):
        if only is not None:
            check_kept(directory, only)
        for step in sorted(reader.all_steps(), reverse=True) if only is None else [only]:
            state, reason = _restore(reader, step, template)
            if not reason:
                return state, damaged
            damaged.append(step)
            if process == 0:
                warn(
                    f"warning: checkpoint {step} of {directory} is damaged ({reason}): "
                    "trying the one before it"
                )
    if damaged:
        raise UserError(
            f"{directory} holds no checkpoint that is whole: {len(damaged)} damaged, the newest of "
            f"step {damaged[0]}. Put back a copy of one, or remove the folder to begin anew"
        )
    return None, []


def _restore(
    reader: ocp.CheckpointManager, step: int, template: TrainState
) -> tuple[TrainState | None, str]:
    """Return (the state, ''), or (None, what is damaged)."""
    state, reason = None, ""
    try:
        metadata = reader.metadata(step)
        saved, sums = metadata.item_metadata, (metadata.custom_metadata or {}).get("checksums")
        if saved is None or sums is None:
            raise _Damaged("its metadata are missing")
        found = _fields(saved)
        if {name for name in found if found[name] != _EMPTY} != set(sums):
            raise _Damaged("its metadata contradict each other")
        _check_same(f"checkpoint {step} of {reader.directory}", found, _fields(template))
        state = reader.restore(step, args=ocp.args.StandardRestore(template))
    except (UserError, MemoryError, jax.errors.JaxRuntimeError):  # the checkpoint may well be whole
        raise
    except Exception as error:  # damaged bytes can lead a parser to any error
        reason = _reason(error)
    if not multihost_utils.process_allgather(np.array(not reason)).all():
        return None, reason or "another host could not read it"
    assert sums is not None  # or there is a reason
    restored = checksums(state)
    differing = [name for name in sums if restored[name] != sums[name]]
    return (None, f"{differing[0]} is not what was saved") if differing else (state, "")


def _check_same(checkpoint: str, found: dict[str, str], wanted: dict[str, str]) -> None:
    """Raise `UserError` naming the fields in which a checkpoint is not what the config wants."""
    differing = sorted(name for name in found | wanted if found.get(name) != wanted.get(name))
    if not differing:
        return
    params = [name for name in differing if name.startswith("params/")]
    fields = "; ".join(
        f"{name} has {found.get(name, 'no place')} there and {wanted.get(name, 'no place')} here"
        for name in (params or differing)[:4]
    )
    raise UserError(
        f"{checkpoint} holds another {'model' if params else 'optimizer'}: {fields}. Go back to "
        "its config, or choose another directory"
    )


def _fields(tree: Any) -> dict[str, str]:
    """Return {'params/dense/kernel': 'shape (8, 16) of float32'}, empty nodes included."""
    flat = ocp.tree.to_flat_dict(tree, sep="/", keep_empty_nodes=True)
    return {
        name: f"shape {tuple(leaf.shape)} of {np.dtype(leaf.dtype)}"
        if hasattr(leaf, "shape")
        else _EMPTY
        for name, leaf in flat.items()
    }


def _set_aside(folder: Path) -> None:
    """Rename 100 to 100.damaged, or 100.damaged2 if there is one already, and so on."""
    names = (f"{folder.name}.damaged{number}" for number in ("", *range(2, 10**6)))
    folder.rename(next(path for name in names if not (path := folder.with_name(name)).exists()))


def _reason(error: Exception) -> str:
    """Return one line: what the system said, or else the error itself."""
    error = error.__cause__ or error
    if code := re.search(r"os_error_code='(\d+)'", str(error)):
        return os.strerror(int(code[1]))
    name = "" if isinstance(error, _Damaged) else f"{type(error).__name__}: "
    return getattr(error, "strerror", None) or textwrap.shorten(f"{name}{error}", 160)
