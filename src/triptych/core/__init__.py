"""The words of Triptych as frozen values, states, errors and the clock. Imports nothing of ours and sends nothing."""
