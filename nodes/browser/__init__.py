"""What the scripts in web/ ask the server for, and what they show."""
