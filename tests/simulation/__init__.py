"""The deterministic simulation: all of Triptych in one process, in virtual time, every choice drawn from one seed.

Read `world` first: it puts the parts together. `runner` runs many seeds, `reduce` cuts a failing one down.
"""
