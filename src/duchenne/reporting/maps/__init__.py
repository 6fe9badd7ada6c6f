"""Pictures of the maps of a run's networks, with their texts, for the page.

Maps lie over the face in grey, coloured by a perceptually uniform scale (viridis) and with a line at three
quarters of the scale, so that they are read without colour too.
"""
