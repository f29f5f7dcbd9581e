"""Redis as bytes: connections, the name of every key, and the Lua scripts, one file each."""
