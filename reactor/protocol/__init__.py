"""Wire messages as tagged structs, shared by the server and our own client."""
