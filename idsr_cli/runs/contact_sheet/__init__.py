"""The contact sheet of a run (`--report`): a page with every photograph before and after, its rain and its time."""
