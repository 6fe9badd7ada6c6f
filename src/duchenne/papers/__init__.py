"""The papers: what they print, and the named variants that reproduce it; one YAML file a paper."""
