"""Segment every object in a video or camera stream with Mask R-CNN."""

__version__ = "0.1.0"
