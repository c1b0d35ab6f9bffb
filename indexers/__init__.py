"""From a file to what is in it: decoding, shots, keyframes, speech, on-screen text, metadata."""
