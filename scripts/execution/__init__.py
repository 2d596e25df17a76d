"""Where training runs execute: in this process or in local worker processes, with the same results from each."""
