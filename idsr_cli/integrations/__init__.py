"""Bridges to other libraries: hloc's extractors, kornia's local affine frames. None of them is a dependency."""
