"""Joint offsets, camera, hand-eye and delay identification, and their files."""
