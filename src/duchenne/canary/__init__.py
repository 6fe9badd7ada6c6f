"""Canaries: training runs on labels that hold nothing to learn, which a sound protocol measures at guessing."""
