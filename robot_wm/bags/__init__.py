"""Rosbags: the crash-safe recorder, the reader for every kind of bag, and the alignment onto the model's time grid."""
