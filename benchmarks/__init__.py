"""How fast and how small Triptych is, measured: see README.md in this folder."""
