"""The commands of ``fallow``, by who uses them."""
