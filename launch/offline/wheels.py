"""Which wheels a machine without a network lacks, and their download on one that has it.

pip is run by a Python of the other machine's version: it evaluates the markers of requirements for
the Python that runs it, whatever --python-version says.
"""

import json
import re
import shutil
import subprocess
import tempfile
import tomllib
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from diffusion_jax.errors import UserError

PLATFORM = re.compile(r"manylinux_2_(\d+)_(\w+)")
INSTALLER = "pip"  # brought along: a virtual environment may have been made without it
SOURCE_ONLY = ("promise",)  # pure Python of which the index has no wheel


class Target(NamedTuple):
    """The machine that the wheels are for.

    Attributes:
      python: an interpreter on this machine, of the version that is there.
      platform: newest manylinux tag that it takes, as 'manylinux_2_28_x86_64'.
      have: version by name of the packages that are there; '' where any version will do.
    """

    python: str
    platform: str
    have: dict[str, str]

    def flags(self) -> list[str]:
        """Return pip's flags for this machine. Raises `UserError` for an unknown platform."""
        if not (match := PLATFORM.fullmatch(self.platform)):
            raise UserError(f"--platform is {self.platform!r}: give one as manylinux_2_28_x86_64")
        newest, machine = int(match[1]), match[2]
        tags = [f"manylinux_2_{minor}_{machine}" for minor in range(newest, 4, -1)]
        tags += [f"manylinux{name}_{machine}" for name in ("2014", "2010", "1")]
        return ["--only-binary=:all:", *(f"--platform={tag}" for tag in tags)]

    def pip(self, *arguments: str) -> None:
        """Run pip. Raises `UserError` with what it says if it fails."""
        if not shutil.which(self.python):
            raise UserError(
                f"--python is {self.python}, which is not here: give a Python of the version that "
                "the other machine has"
            )
        command = [self.python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
        done = subprocess.run([*command, *arguments], capture_output=True, text=True)
        if done.returncode:
            errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
            reason = " ".join(errors or done.stderr.splitlines()[-1:])
            raise UserError(f"pip {arguments[0]} failed: {reason}")


def read_have(path: Path) -> dict[str, str]:
    """Return version by name of the lines of a `pip freeze`; a bare name has the version ''.

    Args:
      path: such a file, or the versions.json of an earlier hour on the same machine.

    Raises:
      UserError: for a line that names no package.
    """
    found: dict[str, str] = {}
    if path.suffix == ".json":
        packages = json.loads(path.read_text())["packages"]
        return {str(canonicalize_name(name)): version for name, version in packages.items()}
    for line in path.read_text().splitlines():
        line = line.partition("#")[0].strip()
        if not line or line.startswith("-e"):
            continue
        match = re.fullmatch(r"([A-Za-z0-9._-]+)(?:\s*==\s*(\S+)|\s*@\s.*)?", line)
        if not match:
            raise UserError(f"{path} has {line!r}: give lines as of `pip freeze`, NAME==VERSION")
        found[canonicalize_name(match[1])] = match[2] or ""
    return found


def required(pyproject: Path, extras: Iterable[str]) -> list[str]:
    """Return what a project and those of the extras that it has require."""
    project = tomllib.loads(pyproject.read_text())["project"]
    own, found = canonicalize_name(project["name"]), []
    waiting = list(project["dependencies"])
    optional = project.get("optional-dependencies", {})
    for extra in extras:
        waiting += optional.get(extra, [])
    while waiting:
        requirement = Requirement(waiting.pop(0))
        if canonicalize_name(requirement.name) == own:
            waiting += [line for extra in requirement.extras for line in optional.get(extra, [])]
        else:
            found.append(str(requirement))
    return list(dict.fromkeys(found))


def fetch(requirements: list[str], target: Target, folder: Path) -> list[str]:
    """Download to a folder the wheels of all that is required and is not there.

    What is there stays in its version, unless the requirements exclude that.

    Returns:
      NAME==VERSION of each wheel.

    Raises:
      UserError: if pip finds no versions that go together.
    """
    direct: dict[str, Requirement] = {
        canonicalize_name(each.name): each for each in map(Requirement, requirements)
    }

    def fits(name: str, version: str) -> bool:
        return name not in direct or direct[name].specifier.contains(version, prereleases=True)

    kept = {name: version for name, version in target.have.items() if version}
    kept = {name: version for name, version in kept.items() if fits(name, version)}
    with tempfile.TemporaryDirectory() as beside:
        report, pins, built = (Path(beside) / name for name in ("report.json", "pins.txt", "built"))
        pins.write_text("".join(f"{name}=={version}\n" for name, version in kept.items()))
        target.pip("wheel", "--no-deps", f"--wheel-dir={built}", *SOURCE_ONLY)
        binary = [*target.flags(), f"--find-links={built}"]
        target.pip(
            *("install", "--dry-run", "--ignore-installed", f"--report={report}", *binary),
            *(f"--target={beside}/target", f"--constraint={pins}", *requirements, INSTALLER),
        )
        chosen = [each["metadata"] for each in json.loads(report.read_text())["install"]]
        there = {name for name, version in target.have.items() if not version} | kept.keys()
        there.discard(INSTALLER)
        names = {str(canonicalize_name(each["name"])): each["version"] for each in chosen}
        wanted = [f"{name}=={version}" for name, version in sorted(names.items())]
        wanted = [each for each in wanted if each.partition("==")[0] not in there]
        target.pip("download", "--no-deps", *binary, f"--dest={folder}", *wanted)
    return wanted
