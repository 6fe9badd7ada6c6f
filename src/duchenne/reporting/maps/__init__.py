"""Pictures of what the networks of a run look at, each with its words, for the page.

Maps lie over the face in grey, coloured by a perceptually uniform scale (viridis) and with a line at three
quarters of the scale, so that they are read without colour too.
"""
