"""Saving and restoring the train state with Orbax: asynchronous, atomic, the last few kept."""

from pathlib import Path
from typing import Any

import jax
import orbax.checkpoint as ocp
from flax import traverse_util

from diffusion_jax.errors import UserError
from diffusion_jax.training.state import TrainState


class Checkpoints:
    """The checkpoints of one run.

    Args:
      directory: where they lie, a folder per step; made at the first save.
      keep: how many of the newest to keep.
    """

    def __init__(self, directory: Path, keep: int = 1):
        options = ocp.CheckpointManagerOptions(max_to_keep=keep)
        self._manager = ocp.CheckpointManager(
            directory.absolute(), item_handlers=ocp.StandardCheckpointHandler(), options=options
        )

    def latest(self) -> int | None:
        """Step of the newest complete checkpoint, None if there is none."""
        return self._manager.latest_step()

    def save(self, step: int, state: TrainState) -> None:
        """Starts writing the state after `step` updates; returns before it is on disk."""
        self._manager.save(step, args=ocp.args.StandardSave(state))

    def restore(self, step: int, template: TrainState) -> TrainState:
        """The state at `step`, with the template's shapes, dtypes and shardings.

        Raises:
          UserError: naming the first parameter that the checkpoint lacks or holds in another shape.
        """
        saved = self._manager.item_metadata(step)["params"]
        found, wanted = (_shapes(tree) for tree in (saved, template.params))
        for name in sorted(set(found) | set(wanted)):
            if found.get(name) != wanted.get(name):
                raise UserError(
                    f"checkpoint {step} of {self._manager.directory} holds another model: "
                    f"{name} has shape {found.get(name)} there and {wanted.get(name)} here"
                )
        return self._manager.restore(step, args=ocp.args.StandardRestore(template))

    def wait(self) -> None:
        """Blocks until the last save is complete."""
        self._manager.wait_until_finished()

    def close(self) -> None:
        """Waits for the last save and releases the manager's threads."""
        self._manager.wait_until_finished()
        self._manager.close()


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    flat = traverse_util.flatten_dict(dict(params), sep="/")
    return {name: tuple(leaf.shape) for name, leaf in flat.items()}


def abstract_like(tree: Any, sharding: Any) -> Any:
    """Shapes and dtypes of a tree of arrays or shapes, to be restored with a tree of shardings."""
    return jax.tree.map(
        lambda leaf, sharding: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding),
        tree,
        sharding,
    )
