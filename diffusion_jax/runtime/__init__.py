"""Devices, processes, files, terminals: what a run needs of the machine it runs on."""
