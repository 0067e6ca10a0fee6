"""Photographs: read and written with what their files say besides (photo), found in folders, and paired."""
