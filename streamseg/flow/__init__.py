"""Takes frames through engine, tracker, counters and effects to the sinks: who runs when, one lane a stream."""
