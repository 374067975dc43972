"""`mcti doctor`: checks of the machine, the packages, the programs and the services that the settings name."""
