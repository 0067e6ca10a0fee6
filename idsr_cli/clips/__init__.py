"""Video clips: read frame by frame (reader), written whole or not at all (writer)."""
