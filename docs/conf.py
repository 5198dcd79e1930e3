"""The book: Sphinx with myst-nb, from the committed lessons. `make book` builds it."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from pages import left_out, make_pages
from parts import setup_parts

from xpuqlib import __version__

HERE = Path(__file__).parent

project = "xpuqlib"
version = release = __version__
author = copyright = "the authors of xpuqlib"
language = "en"

extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_made", "locale", *(f"{page}.md" for page in left_out(HERE))]
templates_path = ["_templates"]

# The committed outputs are the book: nothing is executed, and no widget is loaded from a network.
nb_execution_mode = "off"
nb_ipywidgets_js = {}
nb_merge_streams = True
myst_enable_extensions = ["colon_fence", "dollarmath", "tasklist"]
myst_heading_anchors = 4
myst_dmath_double_inline = True

# For the translations: one catalogue a page, and no identifier that changes with every build.
locale_dirs = ["locale"]
gettext_compact = False
gettext_uuid = False

# Names in docstrings stand between single backquotes.
default_role = "py:obj"
python_maximum_signature_line_length = 80

html_theme = "pydata_sphinx_theme"
html_title = "xpuqlib"
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_js_files = [("explorer.js", {"defer": "defer"})]
html_copy_source = html_show_sourcelink = html_use_index = False
html_search_scorer = str(HERE / "search.js")
html_math_renderer = "mathml"
html_theme_options = {
    "show_nav_level": 1,
    "navigation_with_keys": False,
    "show_prev_next": True,
    "navbar_end": ["language", "theme-switcher"],
    "article_header_end": ["translation"],
    "secondary_sidebar_items": ["page-toc"],
    "footer_start": ["copyright"],
    "footer_end": [],
}
html_context = {
    "default_mode": "auto",
    "both_languages": (HERE / "locale" / "zh_CN").is_dir(),
}

copybutton_exclude = ".linenos, .gp, .go"


def setup(app):
    """Write what is made of the code and the lessons, then let Sphinx read it."""
    make_pages(HERE)
    setup_parts(app)
