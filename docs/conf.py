"""The docs site: `make docs` builds it into build/docs, warnings as errors."""

from __future__ import annotations

import sys
from pathlib import Path

import regrow

sys.path.insert(0, str(Path(__file__).parent / "ext"))

project = "regrow"
copyright = "the regrow authors, Apache-2.0"
version = release = regrow.__version__
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode", "measured", "prose"]
html_theme = "furo"
html_title = f"regrow {version}"
html_copy_source = False
exclude_patterns = ["ext"]
suppress_warnings = ["myst.xref_missing"]  # links to files of the repository; tests/docs checks that they exist

myst_enable_extensions = ["dollarmath", "colon_fence", "attrs_block"]
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
autodoc_use_type_comments = False
napoleon_numpy_docstring = False
nitpicky = False
