"""tpe_tui: the terminal front end of tpe_core, as an inspector and as a command line."""
