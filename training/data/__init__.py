"""From people's folders to grids that train: sequences read, frames picked, captions and their heads."""
