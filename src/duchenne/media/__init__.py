"""Pictures, videos and folders of frames: names, frame numbers and decoding, for datasets and faces alike."""
