"""Join the processes of one run, before JAX looks for devices."""

from launch.common import arguments

import re

import jax
from absl import flags

from diffusion_jax.errors import UserError

flags.disclaim_key_flags()  # an option belongs to the command that defines it, in its --help


def define_flags() -> None:
    """Define the flags that `initialize` reads."""
    flags.DEFINE_bool("distributed", False, "Several hosts, which a TPU pod or SLURM tells of.")
    flags.DEFINE_string("coordinator", None, "HOST:PORT of host 0, where nothing tells of hosts.")
    arguments.count("num_hosts", None, "Number of processes, with --coordinator.")
    arguments.count("host", None, "Number of this process from 0, with --coordinator.", at_least=0)


def initialize(options: flags.FlagValues) -> None:
    """Join the other processes, if the flags say that there are any.

    Raises:
      UserError: for flags that do not go together, or if the others cannot be joined.
    """
    given = [options.num_hosts is not None, options.host is not None]
    if options.coordinator is None and not options.distributed:
        if any(given):
            raise UserError("--num_hosts and --host want --coordinator=HOST:PORT, that of host 0")
        return
    if options.coordinator is not None:
        if not re.fullmatch(r"\S+:\d{1,5}", options.coordinator):
            raise UserError(
                f"--coordinator is {options.coordinator!r}: give HOST:PORT, as 10.0.0.2:8476"
            )
        if not all(given):
            raise UserError("--coordinator wants --num_hosts and --host, the number of this one")
        if not 0 <= options.host < options.num_hosts:
            raise UserError(f"--host is {options.host}: hosts are 0 to {options.num_hosts - 1}")
    try:
        jax.distributed.initialize(options.coordinator, options.num_hosts, options.host)
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()[0]
        raise UserError(f"the other hosts cannot be joined: {reason}") from error
