"""The command line: one file per subcommand, with the tables that it prints."""
