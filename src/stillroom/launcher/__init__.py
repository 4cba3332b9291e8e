"""Launchers: programs that start the processes of one run, on one machine or many."""
