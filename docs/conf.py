"""The docs site: `make docs` builds it into build/docs, warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import regrow

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "regrow"
copyright = "the regrow authors, Apache-2.0"
version = release = regrow.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
extensions += ["measured", "prose", "studies"]  # of docs/ext
html_theme = "furo"
html_title = f"regrow {version}"
html_copy_source = False
exclude_patterns = ["ext"]

myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
napoleon_numpy_docstring = False
