"""What all questions share: servers, child processes, rounds, medians, tables, plots, result files and profiles.

Nothing in here imports headrace: the environment of another checkout can be measured with the scripts of this one.
"""
