"""The command line. torch, cv2 and numpy are imported only when a command needs them."""
