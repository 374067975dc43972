"""Feature sets of other tools: the files of each layout, their readers, their names, and checks of a whole set."""
