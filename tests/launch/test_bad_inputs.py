"""Bad values of every flag and field, and damaged files: one line, status 2, nothing written.

The cases are made from what the commands declare, so that a new flag, field or file is tried
without anyone adding it here. By default every thirtieth case runs, with --all each of them.
"""

import json
import re
import shutil
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import commands
import pytest
import tiny

from configs.base import base, diffussm, rin
from launch.pretrained import DIGITS

ROOT = Path(__file__).parents[2]
NAMES = sorted(
    path.stem
    for path in (ROOT / "launch").glob("[a-z]*.py")
    if '__name__ == "__main__"' in path.read_text()
)
STRIDE = 30  # of the cases that run by default

RUN, OUT, FOLDER, FILE = "RUN", "OUT", "FOLDER", "FILE"  # stand for paths of a case
# Flags that a command needs before it looks at the others.
NEEDS = {
    "benchmark": ["--config=configs/rin/digits.py"],
    "benchmark_data": ["--path=FOLDER"],
    "benchmark_length": ["--out=OUT/x"],
    "benchmark_peers": ["--config=configs/rin/digits.py"],
    "check_fid": [f"--{name}=FILE" for name in ("train", "test", "other", "inception")]
    + ["--workdir=OUT", "--out=OUT/x"],
    "compare": ["--config=configs/rin/digits.py", "--vary=train.steps=1", "--workdir=OUT"],
    "compile": ["--config=configs/rin/digits.py", "--slice=v5e-1"],
    "describe": ["--config=configs/rin/digits.py"],
    "diagnose": ["--workdir=RUN"],
    "encode_latents": ["--path=FOLDER", "--weights=FILE", "--out=OUT"],
    "evaluate": ["--workdir=RUN", "--reference=FILE", "--inception=FILE"],
    "evaluate_videos": ["--workdir=RUN", "--i3d=FILE"],
    "export": ["--workdir=RUN", "--out=OUT"],
    "inspect": ["--workdir=RUN"],
    "posthoc_ema": ["--workdir=RUN", "--sigma_rel=0.1"],
    "prepare": ["--path=FOLDER", "--out=OUT"],
    "quickstart": ["--workdir=RUN"],
    "reference": ["--path=FOLDER", "--inception=FILE", "--out=OUT"],
    "report": ["--workdir=RUN"],
    "sample": ["--workdir=RUN", "--num=1", "--steps=2"],
    "sweep": ["--workdir=RUN", "--vary=guidance=0", "--reference=FILE", "--inception=FILE"],
    "tables": ["--path=FOLDER"],
    "train": [*tiny.flags(), "--workdir=OUT"],
}
BAD_INTEGERS = ["nan", "inf", "-1", "1.5", "1e3", "many", "", "4294967296", "0x10", "9" * 400]
BAD_NUMBERS = ["nan", "inf", "-inf", "1e999", "much", "", "1,5"]
BAD_PATHS = ["", "gs://bucket/x", "s3://bucket/x", "file:///x", "\x1b[2J\nerror: well", "x" * 5000]
BAD_WORDS = ["", "nonesuch", "\x1b]0;title\x07", "a\nerror: all is well"]
FREE_TEXT = {"labels", "mask", "split", "sampler"}  # '' is a value of theirs
OF_OTHER_PATHS = {"images", "frames", "autoencoder", "path"}


@pytest.fixture(scope="module")
def server():
    with commands.serving() as served:
        yield served


def flags_of(server: commands.Commands, name: str) -> dict[str, str]:
    """Name and type of the flags that a command defines itself."""
    shown = server.run(f"launch.{name}", "--helpxml")
    assert shown.code == 0, shown.stderr
    ours = re.compile(r"launch\.\w+|.*/launch/\w+\.py")  # not absl's own flags
    found = {}
    for flag in ElementTree.fromstring(shown.stdout).iter("flag"):
        if ours.fullmatch(flag.find("file").text) and flag.find("key") is not None:
            found[flag.find("name").text] = flag.find("type").text
    return found


def bad_values(name: str, kind: str) -> list[str]:
    """Values that a flag of this type cannot take."""
    if kind.startswith(("Number(integral=True", "Each(rule=Number(integral=True")):
        return BAD_INTEGERS
    if kind.startswith(("Number", "Each")):
        return BAD_NUMBERS
    if kind.startswith("Location"):
        return BAD_PATHS if name not in OF_OTHER_PATHS else BAD_PATHS[:4]
    if kind == "bool":
        return ["maybe"]
    return [word for word in BAD_WORDS if word or name not in FREE_TEXT]


def flag_cases(server: commands.Commands) -> list[list[str]]:
    """Every command with every bad value of each of its flags."""
    cases = []
    for name in NAMES:
        for flag, kind in flags_of(server, name).items():
            needs = [text for text in NEEDS[name] if not text.startswith(f"--{flag}=")]
            for value in bad_values(flag, kind):
                cases.append([f"launch.{name}", *needs, f"--{flag}={value}"])
    return cases


def field_cases() -> list[list[str]]:
    """launch.train with every bad value of each field of both networks' configs."""
    cases = []
    for make, flags in ((rin, tiny.flags), (diffussm, tiny.diffussm_flags)):
        for name, value in sorted(flatten(base(make()).to_dict())):
            cases += [
                ["launch.train", *flags(), "--workdir=OUT", f"--config.{name}={bad}"]
                for bad in bad_field_values(name, value)
            ]
    return cases


def flatten(section: dict, prefix: str = ""):
    for name, value in section.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def bad_field_values(name: str, value: object) -> list[str]:
    if isinstance(value, bool):
        return ["maybe", "2"]
    if isinstance(value, int):
        return ["-1", "nan", "many", "4294967296", "1.5"]
    if isinstance(value, float):
        return ["nan", "inf", "much"]
    if isinstance(value, tuple):
        return ["(nan,)", "much", "(-1,)"]
    if name.endswith(("weights", "inception", "reference", "path")):
        return ["gs://bucket/x"]
    return ["nonesuch", "\x1b[2J"]


def damages(text: str) -> list[bytes]:
    """A JSON file cut, emptied, in another encoding, of another shape, or hostile."""
    raw = text.encode()
    first = json.JSONDecoder().raw_decode(text)[0]  # of a JSONL file its first record
    return [
        b"",
        raw[: len(raw) // 2],
        raw[:-2] + b"\xff\xfe",
        b"\0" * len(raw),
        b"[]",
        b"3",
        b"null",
        b"{}",
        b'{"a": ' * 5000,
        *(json.dumps(dict.fromkeys(first, value)).encode() for value in (None, [1], "x")),
    ]


def file_cases() -> list[tuple[str, bytes, list[str]]]:
    """(file of a run, what it holds instead, the command that reads it)."""
    readers = {
        "config.json": ["sample", "report", "export", "train"],
        "run.json": ["report", "export", "train"],
        "data.json": ["report", "export", "train"],
        "metrics.jsonl": ["report", "train"],
        "speed.jsonl": ["report", "train"],
        "start.json": ["report", "sample", "train"],
        "pictures/pictures.json": ["report"],
    }
    cases = []
    for file, names in readers.items():
        path = DIGITS / file
        for damage in damages(path.read_text() if path.exists() else '{"step": 1}'):
            for name in names:
                needs = (
                    NEEDS[name]
                    if name != "train"
                    else ["--config=configs/rin/digits.py", "--workdir=RUN"]
                )
                cases.append((file, damage, [f"launch.{name}", *needs]))
    return cases


class Case:
    """A folder with a run, an image folder and a file, in which one command is tried."""

    def __init__(self, folder: Path):
        self.folder = folder
        shutil.copytree(DIGITS, folder / RUN)
        (folder / FOLDER).mkdir()
        (folder / FILE).write_bytes(b"nothing of use")
        (folder / "evil.py").write_text(f"open({str(folder / 'CODE_WAS_RUN')!r}, 'w')")
        self.before = self.files()

    def files(self) -> set[Path]:
        return set(self.folder.rglob("*"))

    def filled(self, arguments: list[str]) -> list[str]:
        """The arguments with real paths in them."""
        stands = re.compile(r"=(RUN|OUT|FOLDER|FILE)\b")
        config = f"--config={ROOT}/configs/"
        return [
            stands.sub(lambda found: f"={self.folder / found[1]}", text).replace(
                "--config=configs/", config
            )
            for text in arguments
        ]


def refused(result: commands.Result) -> str | None:
    """What is wrong with how a command ended, None if it refused in one line."""
    if result.code == -9:
        return "took over 60 s"
    if "Traceback" in result.stderr + result.stdout:
        return "traceback"
    if result.code != 2:
        return f"status {result.code}"
    lines = result.stderr.splitlines()
    if len(lines) != 1 or not lines[0].startswith("error: "):
        return f"{len(lines)} lines on stderr"
    if not lines[0].isprintable():
        return "control characters"
    return None


def chosen(cases: list, config: pytest.Config) -> list:
    """All cases with --all, else a sample of them."""
    return cases if config.getoption("--all") else cases[::STRIDE]


def report_of(faults: list[tuple[list[str], str, str]], count: int) -> str:
    shown = [
        f"{why}: {args[0]} {' '.join(text[:100] for text in args[-2:])}\n    {text}"
        for args, why, text in faults
    ]
    return f"{len(faults)} of {count} failed\n" + "\n".join(shown)


def tried(server, tmp_path: Path, cases: list[list[str]]) -> None:
    """Run all cases in one folder, which none of them may change."""
    case, faults = Case(tmp_path), []
    for arguments in cases:
        result = server.run(*case.filled(arguments), cwd=case.folder)
        fault = refused(result)
        if changed := {path for path in case.files() ^ case.before if path.name != "OUT"}:
            fault = f"{fault or ''} changed {sorted(map(str, changed))[:3]}"
            for path in sorted(changed, reverse=True):
                shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        if (case.folder / OUT).exists():
            fault = f"{fault or ''} wrote --out"
            shutil.rmtree(case.folder / OUT)
        if fault:
            faults.append((arguments, fault, result.stderr[-500:]))
    assert not faults, report_of(faults, len(cases))


def test_bad_values_of_every_flag(server, tmp_path, request):
    cases = flag_cases(server)
    assert len(cases) > 500
    tried(server, tmp_path, chosen(cases, request.config))


def test_bad_values_of_every_field(server, tmp_path, request):
    cases = field_cases()
    assert len(cases) > 300
    tried(server, tmp_path, chosen(cases, request.config))


def test_damaged_files_of_a_run(server, tmp_path, request):
    """A damaged file is refused, or is of no use to the command: it never is a traceback."""
    faults, cases = [], chosen(file_cases(), request.config)
    for number, (file, damage, arguments) in enumerate(cases):
        case = Case(tmp_path / str(number))
        (case.folder / RUN / file).parent.mkdir(exist_ok=True)
        (case.folder / RUN / file).write_bytes(damage)
        result = server.run(*case.filled(arguments), cwd=case.folder)
        if result.code and (fault := refused(result)):
            faults.append(([file, repr(damage[:40]), *arguments], fault, result.stderr[-500:]))
        shutil.rmtree(case.folder)
    assert not faults, report_of(faults, len(cases))
