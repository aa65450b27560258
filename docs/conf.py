"""The website of the course, from the notebooks as they are stored:

sphinx-build -W -b html docs docs/_build/html
"""

import sys
from pathlib import Path

DOCS = Path(__file__).resolve().parent
sys.path[:0] = [str(DOCS), str(DOCS.parent)]  # course_site, llm_course

from course_site import staging  # noqa: E402

from llm_course import __version__  # noqa: E402

staging.stage()

project = html_title = "Build a Llama-class engine"
author, copyright, language = "llm_course", "the authors of llm_course", "en"
version = release = __version__
extensions = [
    "myst_nb",
    "sphinx_copybutton",
    "sphinx.ext.autodoc",
    "course_site",
]
exclude_patterns = ["_build", "course_site"]

# Notebooks and Markdown
nb_execution_mode = "off"
nb_custom_formats = {".ipynb": "course_site.reader.read"}
nb_merge_streams = True
nb_code_prompt_show, nb_code_prompt_hide = "Show {type}", "Hide {type}"
myst_enable_extensions = ["dollarmath", "amsmath", "attrs_block"]
myst_heading_anchors = 3

# Mathematics, from files of the site's own
mathjax_path = "mathjax/tex-chtml.js"
mathjax3_config = {
    "loader": {"load": ["a11y/assistive-mml"]},
    "options": {"enableMenu": False},
}

# The reference
autodoc_typehints = "signature"
autodoc_member_order = "bysource"
autodoc_inherit_docstrings = False  # what PyTorch says of its own methods
autodoc_default_options = {"members": True, "undoc-members": False}
python_use_unqualified_type_names = True
add_module_names = False
default_role = "code"  # `x` in docstrings

# Pages
smartquotes_action = "q"  # quotes alone: three dots in a shape are three dots
html_theme = "sphinx_book_theme"
html_static_path = ["_static"]
html_favicon = "_static/favicon.svg"
html_use_index = html_domain_indices = False  # terms.md is the index
html_css_files = ["course.css"]
SCRIPTS = ("course.js", "steps.js", "search.js")
html_js_files = [(name, {"defer": "defer"}) for name in SCRIPTS]
html_show_sourcelink = False
html_copy_source = True  # the notebooks to download
copybutton_selector = "div.cell_input pre, details pre, div.highlight pre"
html_context = {"default_mode": "auto"}  # light or dark as the reader's system is
html_theme_options = {
    "repository_provider": "github",
    "repository_url": staging.address(),
    "repository_branch": "main",
    "path_to_docs": "",  # notebooks/ is the repository's own folder
    "use_repository_button": True,
    "use_download_button": True,
    "use_fullscreen_button": False,
    "launch_buttons": {
        "notebook_interface": "jupyterlab",
        "binderhub_url": "https://mybinder.org",
        "colab_url": "https://colab.research.google.com",
    },
    "show_toc_level": 1,
    "navbar_persistent": [],  # or a second search field appears above the page
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "github-dark",
}
