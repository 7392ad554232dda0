"""A config file for every published row, and small ones."""

import pkgutil

# A folder `configs` of your own, with an __init__.py, adds its modules to ours: it hides none.
__path__ = pkgutil.extend_path(__path__, __name__)
