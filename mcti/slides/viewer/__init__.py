"""A slide in the browser: pan, zoom, and tissue, tiles and scores as layers. Served on this machine's loopback only.

OpenSeadragon 6.1.1 lies in `vendor/` as its npm package ships it, with its licence; no page here asks the network.
"""
