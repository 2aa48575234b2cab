"""Triptych: sets of images that belong together, made and edited by an assistant.

The rooms, along the path a call takes (an arrow never points back; tests/test_arrows.py holds this):

    model, errors -> lifecycle, imaging, retouch, catalog -> providers -> assets, store, wire -> engine -> studio
                  -> server, cli

`emulator` stands beside them: the hosted APIs on loopback, which know only `imaging` and `retouch`.
"""

__version__ = "0.1.0"
