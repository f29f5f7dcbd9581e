"""The floor: what no engine on this stack can avoid, and nothing else. One line of JSON; see probes/floor.py.

python bench/floor.py [--jobs N] [--loop LOOP] [--slots N] [--sleep-ms N] [--payload BYTES] [--no-results]
                      [--fsync MODE]
"""

from probes.floor import main

if __name__ == "__main__":
    main()
