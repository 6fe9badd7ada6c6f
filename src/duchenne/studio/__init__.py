"""The page of ``duchenne studio``: predictions of one file, with their pictures, maps, timeline and table."""
