"""What moves, in a real browser: in a bare page with a stub of Jupyter, and in
JupyterLab."""
