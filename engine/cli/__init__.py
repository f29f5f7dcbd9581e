"""The command line, one file for each command; what a command does is in client, inspect and admin."""
