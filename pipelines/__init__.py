"""evsam's library: detector-prompted instance segmentation. Import what you need from its submodules."""

OWNER = "evsam"
"""Whose package this is: the name `pipelines` is generic, so the command line checks it before use."""
