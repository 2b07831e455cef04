"""How the site is made: the gallery and the docstrings as pages."""
