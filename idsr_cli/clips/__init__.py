"""Video clips: read frame by frame (reader), written completely or not at all (writer)."""
