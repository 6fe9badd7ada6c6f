"""The commands of ``duchenne``, by what they work on."""
