"""Configuration of the documentation site, which ``.ci/docs`` builds.

The source folder is the whole repository, so a link between two Markdown files works here as it does on GitHub.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as installed_version
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "docs" / "_extensions"))

project = "Stillroom"
author = "The Stillroom authors"
version = release = installed_version("stillroom")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "mathml", "reference"]
root_doc = "docs/index"
_pages = {"docs", "benchmarks", "CHANGELOG.md", "CONTRIBUTING.md"}
exclude_patterns = [path.name for path in ROOT.iterdir() if path.name not in _pages]
exclude_patterns += ["benchmarks/README.md", "docs/_extensions"]

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3
math_number_all = False
html_math_renderer = "mathml"

autodoc_use_type_comments = False  # there are none; looking for them takes seconds
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 100
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True  # or attributes of named tuples are described twice
napoleon_use_rtype = False

highlight_language = "none"  # a block without a language is a command line
nitpicky = False
suppress_warnings: list[str] = []

html_theme = "furo"
html_title = f"Stillroom {version}"
html_copy_source = False
html_show_search_summary = False  # a page that is opened from a file cannot fetch another one
html_show_sourcelink = False
html_extra_path = ["_root"]  # a start page at the top that leads to docs/index.html
html_static_path = ["_static"]
html_css_files = ["site.css"]
