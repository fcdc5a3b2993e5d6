"""Catalogues of data files: one file a kind, behind the Protocol `Catalogue`."""
