"""Published DNA language models read from the user's own folders."""
