"""Triptych: sets of images that belong together, made and edited by an assistant.

Seven packages. An arrow between them never points back (tests/unit/test_arrows.py, docs/architecture.md):

    core -> catalog, images -> storage -> providers -> jobs -> server -> cli
"""

__version__ = "0.1.0"
