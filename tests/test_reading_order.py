"""The reading order is what the imports say, and can be read in an hour."""

import importlib.util
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SPEC = importlib.util.spec_from_file_location("reading_order", ROOT / "docs" / "reading_order.py")
reading_order = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(reading_order)


def test_the_page_is_what_the_imports_and_the_files_say():
    written = (ROOT / "docs" / "reading_order.md").read_text()
    remedy = "python docs/reading_order.py > docs/reading_order.md"
    assert written == reading_order.page(), f"write the page anew: {remedy}"


@pytest.mark.parametrize("network", reading_order.MODELS)
def test_training_is_readable_in_few_files_and_lines(network):
    files = reading_order.files_to_read(network)
    lines = [len((ROOT / file).read_text().splitlines()) for file in files]
    assert len(files) <= 14 and sum(lines) <= 2000, dict(zip(files, lines, strict=True))
    assert {reading_order.START, reading_order.MODELS[network]} < set(files)


def test_every_file_is_followed_or_left_out_for_a_reason():
    """No import of a listed file gets lost between the lists and the exceptions of the page."""
    exceptions = sum(reading_order.SKIPPED.values(), ())
    listed = {file for name in reading_order.MODELS for file in reading_order.files_to_read(name)}
    for file in listed:
        for each in reading_order.imported(file):
            assert each in listed or each.startswith(exceptions), (file, each)
