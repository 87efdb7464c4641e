"""The inspector's screens: the inspect screen and the modal ones over it. No engine code."""
