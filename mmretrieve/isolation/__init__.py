"""Reading files of strangers in processes of their own, with bounds of time and memory."""
