"""The site of all pages: Sphinx reads the Markdown of the checkout, and writes pages that need no network.

`make docs` builds it into build/site; open build/site/index.html. The pages have no markup of their own for Sphinx, so
that a Git host shows the same text: `navigation` and `source_pages`, beside this file, make what is different here.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "capx"
extensions = ["myst_parser", "navigation", "source_pages"]
root_doc = "README"
include_patterns = ["README.md", "CHANGELOG.md", "docs/**.md"]
exclude_patterns = [".*", "build", "capx", "caveats", "cli", "dist", "tests"]

nitpicky = True
smartquotes = False
# The anchors that a Git host makes of headings.
myst_heading_anchors = 4

html_theme = "furo"
html_title = "capx"
html_static_path = ["static"]
html_css_files = ["site.css"]
html_copy_source = False
html_domain_indices = False
html_show_copyright = False
html_show_sourcelink = False
html_show_sphinx = False
html_use_index = False
