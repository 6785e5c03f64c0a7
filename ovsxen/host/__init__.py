"""This machine: paths, settings, processes, files, the kernel module, the firewall, the clock."""
