"""Files of markets and tables, read and checked."""
