"""Files written from event loops: opened for append, framed, buffered, rotated, and honest about full disks.

One writer per file. Nothing here knows jobs or queues; sinks and the submission spool build on it.
"""
