"""The website: what its parts are made of, and the pages that Sphinx builds."""
