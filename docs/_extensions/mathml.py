"""Render mathematics as MathML while the site is built, so that a page needs no script, font or network for it."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from docutils import nodes
from latex2mathml.converter import convert
from sphinx.util import logging

if TYPE_CHECKING:
    from sphinx.application import Sphinx
    from sphinx.writers.html5 import HTML5Translator

LOGGER = logging.getLogger(__name__)


def visit_math(translator: HTML5Translator, node: nodes.math) -> None:
    """Write one formula within a line."""
    translator.body.append(_mathml(node, "inline"))
    raise nodes.SkipNode


def visit_math_block(translator: HTML5Translator, node: nodes.math_block) -> None:
    """Write one formula on a line of its own, which scrolls where it is wider than the page."""
    translator.body.append(f'<div class="math-block">{_mathml(node, "block")}</div>\n')
    raise nodes.SkipNode


def _mathml(node: nodes.math | nodes.math_block, display: str) -> str:
    """Convert a node's LaTeX; what cannot be converted is a warning, which fails a strict build."""
    latex = node.astext().strip()
    try:
        markup = convert(latex, display=display)
    except Exception as error:  # noqa: BLE001 - the converter raises many kinds
        LOGGER.warning("cannot convert %r to MathML: %r", latex, error, location=node)
        return f"<code>{latex}</code>"
    if left := re.findall(r"\\[A-Za-z]+", markup.replace("\\\\", "")):
        LOGGER.warning("unknown LaTeX commands %s in %r", left, latex, location=node)
    return markup


def setup(app: Sphinx) -> dict[str, Any]:
    """Register the renderer under the name ``mathml``."""
    app.add_html_math_renderer("mathml", (visit_math, None), (visit_math_block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
