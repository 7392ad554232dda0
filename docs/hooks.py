"""What mkdocs makes of the pages: README.md is the first, and links lead to pages alone."""

import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
LINK = re.compile(r"\[([^]\n]*)\]\(([^)\s]+)\)")


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Adds README.md as index.md, its links as seen from docs/."""

    def from_docs(link: re.Match) -> str:
        text, path = link.groups()
        if not (ROOT / path).exists():  # an address, or no link at all
            return link[0]
        return f"[{text}]({os.path.relpath(path, 'docs')})"

    text = LINK.sub(from_docs, (ROOT / "README.md").read_text())
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, **_) -> str:
    """Links to what is no page, as configs, become their text."""
    return LINK.sub(lambda link: f"`{link[1]}`" if link[2].startswith("../") else link[0], markdown)
