"""Generated tokens to a response, as machines: token bytes → text → chunks, and a client's way back."""
