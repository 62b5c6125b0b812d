"""On the site, a link to a study's report in benchmarks/ leads to its page; in the repository, to the file."""

from __future__ import annotations

import re
from typing import Any

from sphinx.application import Sphinx

REPORT = re.compile(r"\]\((?:\.\./)+benchmarks/(\w+)/report\.md\)")


def lead_to_pages(app: Sphinx, docname: str, source: list[str]) -> None:
    up = "../" * docname.count("/")
    source[0] = REPORT.sub(rf"]({up}studies/\1.md)", source[0])


def setup(app: Sphinx) -> dict[str, Any]:
    app.connect("source-read", lead_to_pages)
    return {"parallel_read_safe": True}
