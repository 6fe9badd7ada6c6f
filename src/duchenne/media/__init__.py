"""Pictures, videos and folders of frames: names, frame numbers and decoding, for both datasets and faces."""
