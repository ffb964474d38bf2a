"""What the scripts in web/ ask for and show."""
