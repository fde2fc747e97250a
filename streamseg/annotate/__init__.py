"""Hours of video become labels: looked at once, in pieces that survive anything; all else is derived from that.

    INPUTs ──► chunks ──► detections, a file a chunk ──► one ordered pass ──► labels in every format
               plan       work                           ordering             formats/

Detecting is what takes long, so what it found is kept, from score 0.05 up, and never done twice. Tracks, ids, formats,
pictures and the overlay are made afterwards in one pass over each video in order, on one machine, from what was kept.
So an interrupted job, several processes, several machines and another format are all the same replay, and what comes
out is equal because it is made in the same way. `job.py` reads from top to bottom what happens.
"""
