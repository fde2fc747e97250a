"""Mask R-CNN on keras.ops: one definition for TensorFlow, JAX and torch."""
