"""evsam's weights: the manifest, the store that resolves a name to a file, and safe loading."""

OWNER = "evsam"
