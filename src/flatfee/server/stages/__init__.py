"""The four stages of a request: authenticate, admit, relay, settle. One file each."""
