"""Draw on a frame's own planes: what no stroke touches stays bit for bit what the camera sent, 10 bit stays 10 bit.

    from streamseg.canvas import Canvas

    canvas = Canvas(frame.picture)
    canvas.drain(instances.of("person"))
    canvas.picture                        # a new frame, grey but for the people; the old one is as it was

Everywhere in this room weights are uint8, 0 (nothing) to 255 (fully), colours are RGB in [0, 255] as on a screen, and
places are pixels of the picture. A *component* is one of Y, U, V or R, G, B, a 2-D array of uint8 or uint16; a
subsampled one has one sample for sub_y × sub_x pixels.
"""

from __future__ import annotations

from streamseg.canvas.colours import DARK, PALETTE, WHITE, Color, color_of, ink_on
from streamseg.canvas.letters import text_size
from streamseg.canvas.strokes import Backdrop, Canvas

__all__ = ["DARK", "PALETTE", "WHITE", "Backdrop", "Canvas", "Color", "color_of", "ink_on", "text_size"]
