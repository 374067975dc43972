"""Viewer of a slide in the browser, with tissue, tiles and scores as layers; served only on the loopback interface.

`vendor/` holds OpenSeadragon 6.1.1, unchanged from its npm package, with its licence. The page loads nothing from the
network.
"""
