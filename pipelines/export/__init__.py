"""A SAM's network as files that other back ends run, each checked against torch before it is believed."""
