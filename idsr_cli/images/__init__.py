"""Photographs: reading and writing with their metadata (photo), searching folders (folders), pairing (pairs)."""
