"""evsam's command line. It parses, calls `pipelines`, and prints."""

OWNER = "evsam"
