"""The command line. Nothing here imports torch, cv2 or numpy before a command has work for them."""
