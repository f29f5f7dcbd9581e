"""The supervisor of `headrace run --processes N`: starts workers as our own command and keeps them there."""
