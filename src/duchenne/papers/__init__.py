"""The papers: printed tables and the named variants that reproduce them, in one YAML file per paper."""
