"""A graph on a target as prepared steps: what is known of it, which kernel each node takes, where buffers lie."""
